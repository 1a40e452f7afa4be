"""Result rows whose flow is known because it was written down: which share of the questions each knockout loses."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

GENERAL = "Image Without Central Object->Question"
SPECIFIC = "Image Central Object->Question"
ANSWER = "Question->Last"
STRAIGHT = "Image->Last"
PRUNING = "Image->All@to-end"
LAYERS = 12

# (pathway[@style], layers with the share of questions that a knockout there loses); layers not named lose none.
Flow = Mapping[str, Mapping[int, float]]


def rows_of(flow: Flow, questions: int = 160, layers: int = LAYERS, task: str = "ChooseAttr") -> pd.DataFrame:
    """Rows of a run of correct questions. A lost question loses 90 to 100 % of its probability, others up to 0.1 %.

    Which questions are lost differs between curves and layers, by a fixed seed.
    """
    random = np.random.default_rng(7)
    names = [f"q{place:04}" for place in range(questions)]
    tables = []
    for curve, shares in flow.items():
        pathway, _, style = curve.partition("@")
        for layer in range(layers):
            lost = random.permutation(questions) < round(shares.get(layer, 0.0) * questions)
            change = np.where(lost, -random.uniform(90, 100, questions), random.uniform(-0.1, 0.1, questions))
            tables.append(
                pd.DataFrame(
                    {
                        "question_id": names,
                        "task": task,
                        "kind": "edges",
                        "mode": "mask",
                        "pathway": pathway,
                        "style": style or "centred",
                        "layer": layer,
                        "window": 1,
                        "base_score": 1.0,
                        "knockout_score": 1.0 - lost,
                        "relative_change": change,
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def until(layer: int, share: float = 0.8) -> dict[int, float]:
    """What cutting the image off from each layer on loses, if it is last read in `layer`."""
    return dict.fromkeys(range(layer + 1), share)


TWO_STEPS: Flow = {
    GENERAL: {},
    SPECIFIC: {3: 0.7},
    STRAIGHT: {},
    ANSWER: {8: 0.75},
    PRUNING: until(3),
}
THREE_STAGES: Flow = {
    GENERAL: {1: 0.5, 2: 0.4},
    SPECIFIC: {5: 0.6},
    STRAIGHT: {},
    ANSWER: {8: 0.5, 9: 0.8, 10: 0.1},
    PRUNING: until(5),
}
TWO_INJECTIONS: Flow = {
    GENERAL: {0: 0.6, 6: 0.5},
    SPECIFIC: {6: 0.6},
    STRAIGHT: {},
    ANSWER: {9: 0.75},
    PRUNING: until(6),
}
STRAIGHT_TO_LAST: Flow = {GENERAL: {}, SPECIFIC: {}, STRAIGHT: {7: 0.7}, ANSWER: {}, PRUNING: until(7)}
NO_FLOW: Flow = {GENERAL: {}, SPECIFIC: {}, STRAIGHT: {}, ANSWER: {}, PRUNING: {}}
