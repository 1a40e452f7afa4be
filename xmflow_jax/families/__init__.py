"""Model families: a folder each, found by the model type of config.json."""

from xmflow_jax.nn.without_optax import import_flax_without_optax

import_flax_without_optax()
