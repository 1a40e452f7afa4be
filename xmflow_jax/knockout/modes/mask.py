"""Edges are removed before the softmax, as the study does (arXiv 2411.18620): the others are renormalised."""

from typing import Final

from xmflow_jax.nn.treatment import Treatment

TREATMENT: Final = Treatment("mask", removed=True)
