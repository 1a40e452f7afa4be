from xmflow_jax.scoring.exact import exact_match


def test_prediction_is_stripped_and_lower_cased() -> None:
    assert exact_match(" Red\n", "red") == 1.0


def test_another_answer_scores_nothing() -> None:
    assert exact_match("dark red", "red") == 0.0


def test_final_stop_counts_as_in_the_study() -> None:
    assert exact_match("red.", "red") == 0.0


def test_gold_answer_is_taken_as_it_is() -> None:
    assert exact_match("Red", "Red") == 0.0
    assert exact_match("red", "red ") == 0.0
