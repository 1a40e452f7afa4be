"""The model families as Flax NNX modules; one file per family, each mirroring the published one.

Letters in shapes and einsums, here and in `knockout/`:

    B batch (questions)      L layers              D model width
    C configurations         H query heads         d head width
    T target positions       K key-value heads     V vocabulary
    S source positions       G query heads per key-value head (H = K * G)
    R suffix rows            P prefix positions    A actions of a study
"""

from xmflow_jax.nn.without_optax import import_flax_without_optax

import_flax_without_optax()
