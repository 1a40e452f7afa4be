"""Published checkpoints to parameters and back: key rules, safetensors, Orbax."""

from xmflow_jax.nn.without_optax import import_flax_without_optax

import_flax_without_optax()
