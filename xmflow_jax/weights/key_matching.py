"""Which published tensor each parameter's canonical name is, in whichever of a family's layouts a file is written."""

import re
from collections.abc import Iterable

from xmflow_jax.errors import CheckpointError
from xmflow_jax.weights.rules import KeyTable


def canonical_names(published: Iterable[str], table: KeyTable, where: str) -> dict[str, str]:
    """Which published tensor each canonical name is, for exactly the tensors that the table calls for.

    A tied model's file may hold the head, the embedding, or both; every one that is there is named.

    Args:
        published: all tensor names of the checkpoint.
        where: the checkpoint, for messages.

    Raises:
        CheckpointError: a tensor is missing or left over in the best-fitting of the family's layouts.
    """
    either = {table.embedding, table.head} if table.tied else set()
    found = {name for name in published if not any(re.search(f"{end}$", name) for end in table.harmless)}
    wanted = [*table.tensor_names(), *([table.head] if table.tied else [])]
    spellings = {layout.name: {layout.published(name): name for name in wanted} for layout in table.layouts}
    layout = max(table.layouts, key=lambda one: len(found & spellings[one.name].keys()))
    spelt = spellings[layout.name]
    names = {canonical: name for name, canonical in spelt.items() if name in found}
    absent = [name for name in wanted if name not in names]
    if not either <= set(absent):
        absent = [name for name in absent if name not in either]
    left_over = sorted(found - spelt.keys())
    problems = []
    if absent:
        hint = " (only a model with tie_word_embeddings may lack it)" if absent == [table.head] else ""
        problems.append(f"{len(absent)} missing: {_few([layout.published(name) for name in absent])}{hint}")
    if left_over:
        problems.append(f"{len(left_over)} not understood: {_few(left_over)}")
    if problems:
        raise CheckpointError(
            f"{where}: tensors do not match config.json in the nearest layout, {layout.name!r}: {'; '.join(problems)}"
        )
    return names


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
