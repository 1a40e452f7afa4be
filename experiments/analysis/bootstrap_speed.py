"""How long the statistics of a study take: 1,000 questions, 6 pathways, 32 layers, unless told otherwise.

python -m experiments.analysis.bootstrap_speed
"""

import argparse
import time

import numpy as np
import pandas as pd

from xmflow_jax.analysis.bootstrap import RESAMPLES, bootstrap_intervals
from xmflow_jax.analysis.permutation import DRAWS, sign_flip_p_values
from xmflow_jax.analysis.recommendation import recommend
from xmflow_jax.analysis.summary import summarize

PATHWAYS = (
    "Question->Last",
    "Image->Last",
    "Image->Question",
    "Image Central Object->Question",
    "Image Without Central Object->Question",
    "Image->All",
)


def simulated_rows(questions: int, layers: int) -> pd.DataFrame:
    """A run's rows with random effects."""
    random = np.random.default_rng(0)
    question, pathway, layer = (
        grid.ravel() for grid in np.meshgrid(np.arange(questions), PATHWAYS, np.arange(layers), indexing="ij")
    )
    lost = random.random(question.size)
    return pd.DataFrame(
        {
            "question_id": question.astype(str),
            "task": "ChooseAttr",
            "kind": "edges",
            "mode": "mask",
            "pathway": pathway,
            "style": np.where(pathway == "Image->All", "to-end", "centred"),
            "layer": layer,
            "base_score": 1.0,
            "knockout_score": (lost > 0.2).astype(float),
            "relative_change": -100 * lost,
            "base_answer": "red",
            "knockout_answer": np.where(lost > 0.2, "red", "blue"),
            "base_margin": 3.0,
            "knockout_margin": 3.0 - 6.0 * lost,
        }
    )


def main() -> None:
    """Print the seconds of each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--layers", type=int, default=32)
    options = parser.parse_args()
    rows = simulated_rows(options.questions, options.layers)
    values = rows["relative_change"].to_numpy().reshape(options.questions, -1)
    print(f"{options.questions} questions x {len(PATHWAYS)} pathways x {options.layers} layers")
    start = time.perf_counter()
    bootstrap_intervals(values)
    print(f"bootstrap intervals of one measure ({RESAMPLES} resamples): {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    sign_flip_p_values(values)
    print(f"sign-flip p-values of one measure ({DRAWS} draws): {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    summary = summarize(rows)
    print(f"summary, with intervals and p-values of all measures: {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    recommend(rows, summary)
    print(f"stages and recommendation: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
