import numpy as np

from xmflow_jax.measures.probability import relative_change


def test_percent_of_the_base_probability() -> None:
    change = relative_change([0.8, 0.5, 0.25, 1.0], [0.4, 0.5, 0.5, 0.0])
    np.testing.assert_array_equal(change, [-50.0, 0.0, 100.0, -100.0])


def test_a_scalar_base_is_compared_with_every_layer() -> None:
    change = relative_change(0.5, np.array([[0.25, 0.75]]))
    np.testing.assert_array_equal(change, [[-50.0, 50.0]])
    assert relative_change(0.5, 0.25).shape == ()


def test_a_base_probability_of_zero_is_undefined_rather_than_infinite() -> None:
    np.testing.assert_array_equal(relative_change([0.0, 0.0], [0.0, 0.1]), [np.nan, np.nan])


def test_float32_probabilities_are_subtracted_in_float64() -> None:
    base, knockout = np.float32(0.3), np.float32(0.1)
    assert relative_change(base, knockout) == 100 * (float(knockout) - float(base)) / float(base)
