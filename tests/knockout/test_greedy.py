"""Greedy decoding's choice against the library's argmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmflow_jax.knockout.greedy import greedy_token


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_first_of_the_largest_as_argmax_gives_it(dtype: jnp.dtype) -> None:
    """Few values, so that most rows have ties; rows of minus infinity, alone and beside numbers."""
    logits = jax.random.randint(jax.random.key(0), (7, 50, 11), -2, 3).astype(dtype)
    logits = logits.at[0].set(-jnp.inf).at[1, :, :5].set(-jnp.inf).at[2, :, 3].set(jnp.inf)
    np.testing.assert_array_equal(greedy_token(logits), jnp.argmax(logits, axis=-1))


def test_a_nan_gives_some_token() -> None:
    logits = jnp.array([[1.0, jnp.nan, 2.0], [jnp.nan, jnp.nan, jnp.nan]])
    assert set(np.asarray(greedy_token(logits)).tolist()) <= {0, 1, 2}
