"""What a curve over the layers is about, and how it is told from other curves."""

from typing import Final, NamedTuple

import pandas as pd

from xmflow_jax.run.row_words import EDGES, KEEP_ONLY, OUTPUT, USUAL_MODES, USUAL_STYLE

# The columns of rows and summaries that tell curves of one task apart.
CURVE: Final = ("kind", "mode", "pathway", "style")


class Curve(NamedTuple):
    """Everything but task and layer that a row says of its knockout; the fields are those of `CURVE`, as texts.

    Attributes:
        kind: `edges`, `keep-only` or `output`.
        pathway: `Image->Question`; of outputs site and role, `self:Image`.
    """

    kind: str
    mode: str
    pathway: str
    style: str

    @property
    def subject(self) -> str:
        """`Image->Question`, `only Image->Question` or `self output of Image`."""
        if self.kind == KEEP_ONLY:
            return f"only {self.pathway}"
        if self.kind == OUTPUT:
            site, _, role = self.pathway.partition(":")
            return f"{site} output of {role}"
        return self.pathway

    @property
    def name(self) -> str:
        """The subject with mode and window style in brackets, where they are not the usual ones."""
        unusual = [self.mode] if self.mode != USUAL_MODES.get(self.kind) else []
        unusual += [self.style] if self.style != USUAL_STYLE else []
        return f"{self.subject} ({', '.join(unusual)})" if unusual else self.subject


def curves_of(table: pd.DataFrame) -> list[Curve]:
    """The curves of rows or of a summary, sorted."""
    return sorted({Curve(*map(str, one)) for one in table[list(CURVE)].drop_duplicates().itertuples(index=False)})


def of_curve(table: pd.DataFrame, curve: Curve) -> pd.DataFrame:
    """The part of a table that one curve is drawn from, its layers in order."""
    own = (table[list(CURVE)] == list(curve)).all(axis=1)
    return table[own].sort_values("layer")


def edges_of(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that block a pathway's edges, which stages and pruning are read from; those of the usual mode where a
    run has several."""
    edges = table[table["kind"] == EDGES]
    usual = edges["mode"] == USUAL_MODES[EDGES]
    return edges[usual] if usual.any() else edges
