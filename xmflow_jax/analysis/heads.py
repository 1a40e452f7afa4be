"""The effect of every single head: the content of `heads.csv`, where a study blocked heads one by one."""

from typing import Final

import pandas as pd

from xmflow_jax.analysis.curve import CURVE
from xmflow_jax.analysis.summary import SUMMARY_COLUMNS, TAU, Resampling, summarize
from xmflow_jax.run.row_words import TOGETHER

# Where the summary's columns take one more.
_PLACE: Final = SUMMARY_COLUMNS.index("layer")


def summarize_heads(rows: pd.DataFrame, tau: float = TAU, resampling: Resampling | None = None) -> pd.DataFrame:
    """As `summarize`, each head by itself, with one more column, `head`; sorted by task, curve, head and layer.

    Every head is its own curve: p-values are corrected over the layers of one head, not over the heads. Effects of
    single heads do not add up to the pathway's: what one head no longer reads, another may still. Empty where no head
    was blocked alone.

    Args:
        rows: a run's rows (`xmflow_jax.run.folder.read_rows`).
        tau, resampling: as for `summarize`.

    Raises:
        ValueError: as for `summarize`.
    """
    heads = set(rows["head"]) if "head" in rows else set()
    tables = [
        summarize(rows[rows["head"] == head].assign(head=TOGETHER), tau, resampling).assign(head=head)
        for head in sorted(heads)
        if head != TOGETHER
    ]
    found = pd.concat(tables, ignore_index=True) if tables else summarize(rows[:0], tau, resampling).assign(head=[])
    names = [name for name in found.columns if name != "head"]
    order = ["task", *CURVE, "head", "layer"]
    return found[[*names[:_PLACE], "head", *names[_PLACE:]]].sort_values(order, ignore_index=True)
