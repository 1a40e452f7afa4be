"""Edges' weights are set to zero after the softmax: the others keep theirs, so that nothing else is read instead."""

from typing import Final

from xmflow_jax.nn.treatment import Treatment

TREATMENT: Final = Treatment("zero", removed=False)
