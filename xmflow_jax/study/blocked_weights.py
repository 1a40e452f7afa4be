"""How much attention blocked sources still get, through each engine's own masks and attention.

Neither engine hands its weights out, so the values are replaced: with 1 at the blocked sources and 0 elsewhere, what
attention returns is the weight that a target gives to all blocked sources together. Queries and keys are the model's
own, in the state that the base run has them in. Where a mode puts the sources' mean in place of their own values, half
of the sources have 1 and half of them -1: their mean is zero, and what arrives is what still leaks of their own values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from xmflow_jax.data.batch import Batch
from xmflow_jax.data.prompt import PreparedQuestion
from xmflow_jax.knockout.arrays import Positions, Switches, build_switches, site_edges, stack_roles
from xmflow_jax.knockout.controls import Prompt, question_key
from xmflow_jax.knockout.fast.attention import Reads, Rows, SharedKeys, Under
from xmflow_jax.knockout.fast.base_run import BaseRun, attend_outside, run_stack
from xmflow_jax.knockout.fast.placement import PREFIX_STEP, round_up
from xmflow_jax.knockout.kinds import kind_of
from xmflow_jax.knockout.kinds.kind import View
from xmflow_jax.knockout.modes import MODES
from xmflow_jax.knockout.positions import everywhere, real_positions, rotation_at, side_by_side
from xmflow_jax.knockout.study import Study
from xmflow_jax.knockout.study_rows import StudyRow
from xmflow_jax.machine.compiler import Program
from xmflow_jax.machine.passes import to_host
from xmflow_jax.nn.anatomy import MAIN, OWN, Site
from xmflow_jax.nn.attention import attend
from xmflow_jax.nn.interfaces import Attend, Block, KeysValues, Model
from xmflow_jax.nn.layers import layer_slice
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.stacks import every_row, group_begins, group_ranges, layers_before, nothing_dropped, stack_name
from xmflow_jax.nn.visibility import sees
from xmflow_jax.weights.load import LoadedModel


@dataclass(frozen=True, eq=False)
class Probe:
    """Configurations whose blocked edges are looked at, each in its own layer of the main stack.

    Attributes:
        site: where the edges are.
        group: of blocks alike, which all the layers are in.
        switches: of these configurations.
        layer: of each, within the group.
        source: what each of the site's sources has as its value.
        blocked: heads and targets that must give the sources nothing.
    """

    rows: tuple[StudyRow, ...]
    site: Site
    group: int
    switches: Switches
    layer: Int[np.ndarray, " pair"]
    source: Float[np.ndarray, "pair source"]
    blocked: Bool[np.ndarray, "pair head target"]


def probes(model: LoadedModel, prompt: PreparedQuestion, rows: Sequence[StudyRow], study: Study) -> Iterator[Probe]:
    """The configurations' edges in the main stack, by site and group of blocks.

    Sources and targets are read off the prompt's roles here, not taken from the engines' arrays.
    """
    found: dict[tuple[Site, int], list[tuple[StudyRow, int, Any]]] = {}
    stack = model.net.module().stacks[-1]
    for row in rows:
        ((group, index, _),) = group_ranges(stack, row.layer, row.layer + 1)
        for action, _, some_heads in row.knockout.switched:
            kind = kind_of(action)
            for bank in kind.banks(action):
                shown = None if kind.probe is None else kind.probe(bank, action, prompt_of(prompt))
                if shown is None or bank.site.stack != MAIN or not shown.source.any():
                    continue
                heads = range(study.anatomy.main.heads)
                head = np.isin(np.arange(len(heads)), heads if some_heads is None else some_heads)
                source = shown.source.astype(np.float32)
                if MODES[bank.mode].instead is not None:
                    source = balanced(shown.source)
                found.setdefault((bank.site, group), []).append((row, index, (source, head[:, None] & shown.target)))
    for (site, group), own in found.items():
        switches = build_switches([row.knockout for row, _, _ in own], study.actions, study.anatomy)
        layer = np.array([index for _, index, _ in own], np.int32)
        sources, blocked = zip(*[shown for _, _, shown in own], strict=True)
        yield Probe(tuple(row for row, _, _ in own), site, group, switches, layer, np.stack(sources), np.stack(blocked))


def balanced(source: Bool[np.ndarray, " source"]) -> Float[np.ndarray, " source"]:
    """1 and -1 in turn at the sources, 0 at the last of an odd number of them."""
    values = np.zeros(len(source), np.float32)
    places = np.flatnonzero(source)
    places = places[: len(places) // 2 * 2]
    values[places[::2]], values[places[1::2]] = 1, -1
    return values


def prompt_of(prompt: PreparedQuestion) -> Prompt:
    """The prompt as matched controls are drawn for it."""
    return Prompt(stack_roles(prompt), key_of(prompt), prompt.place.blocks)


def key_of(prompt: PreparedQuestion) -> int:
    """The prompt's question's own number."""
    return question_key(prompt.question.task, prompt.question.question_id)


def blocked_weights_plain(
    model: LoadedModel, base: BaseRun, batch: Batch, positions: Positions, probe: Probe
) -> Float[np.ndarray, "pair head target"]:
    """Of a batch's first prompt, through the plain engine's dense masks."""
    one = jax.tree.map(lambda part: part[:1], (batch, positions))
    source = _padded(probe, batch.tokens.shape[1])
    place = probe.site, probe.group
    weights = _plain(model.net, _first_prompt(base), *one, probe.switches, probe.layer, source, place=place)
    return np.asarray(to_host(weights))[..., : int(batch.length[0])]


def blocked_weights_fast(
    model: LoadedModel, base: BaseRun, batch: Batch, positions: Positions, probe: Probe
) -> Float[np.ndarray, "pair head target"]:
    """Of a batch's first prompt, through the fast engine's masks; zero at rows that it does not recompute."""
    one = jax.tree.map(lambda part: part[:1], (batch, positions))
    rows, first, length = base.hidden[-1].shape[2], int(base.first[-1][0]), int(batch.length[0])
    prefix = min(batch.tokens.shape[1], round_up(max(1, first), PREFIX_STEP))
    source = _padded(probe, batch.tokens.shape[1])
    weights = to_host(
        _fast(
            model.net, _first_prompt(base), *one, probe.switches, probe.layer, source,
            shown=Shown(probe.site, probe.group, rows, prefix),
        )
    )  # fmt: skip
    whole = np.zeros((*weights.shape[:2], batch.tokens.shape[1]), weights.dtype)
    whole[..., first : first + rows] = weights
    return whole[..., :length]


def _padded(probe: Probe, length: int) -> Float[np.ndarray, "pair source"]:
    """The sources' values up to the padded length; what is read outside the stack is not padded here."""
    missing = length - probe.source.shape[1] if probe.site.reads == OWN else 0
    return np.pad(probe.source, ((0, 0), (0, missing))).astype(np.float32)


def _first_prompt(base: BaseRun) -> BaseRun:
    keys = jax.tree.map(lambda part: part[:, :, :1], base.keys)
    hidden = jax.tree.map(lambda part: part[:, :1], base.hidden)
    return BaseRun(keys, hidden, *jax.tree.map(lambda part: part[:1], tuple(base[2:])))


def _like(source: Float[Array, " source"], keys: Array) -> Array:
    """The sources as values of the keys' shape [..., source, heads, head_width] and type."""
    return jnp.broadcast_to(source[: keys.shape[-3], None, None], keys.shape).astype(keys.dtype)


def _with_sources(key: Float[Array, "kv_heads 1 head_width source"], values: Float[Array, " longest"]) -> SharedKeys:
    """The keys, and as many of the sources' values."""
    return SharedKeys(key, _like(values, key.transpose(1, 3, 0, 2)).transpose(2, 0, 1, 3))


def _seen(block: Block, x: Array, rotation: Any, probed: Site, attend_at: Attend) -> Float[Array, "head row"]:
    """What the first number of every head gets at a site of a block, of the first prompt."""
    kept: list[Array] = []

    def attend_and_keep(
        site: Site, query: Array, own: KeysValues | None, scale: float, span: Any = None, softcap: float | None = None
    ) -> Array:
        if site == probed:
            kept.append(attend_at(site, query, own, scale, span, softcap))
        return jnp.zeros_like(query)

    block(x, rotation, attend_and_keep, nothing_dropped, every_row)
    attended = kept[0].reshape(-1, *kept[0].shape[-2:])
    return attended[..., 0].T


@partial(Program, static=("place",))
def _plain(
    net: Network,
    base: BaseRun,
    batch: Batch,
    positions: Positions,
    switches: Switches,
    layers: Int[Array, " pair"],
    sources: Float[Array, "pair source"],
    place: tuple[Site, int],
) -> Float[Array, "pair head row"]:
    model, (site, group) = net.module(), place
    stack, outside = model.stacks[-1], base.keys[-1].outside[group]
    added = model.added(len(model.stacks) - 1, batch.tokens, base.features)
    rows, rotation, blocks = everywhere(stack, batch.inputs[-1], batch.tokens.shape, added)
    hidden, within = _layer_inputs(model, base, batch), group_begins(stack)[group]
    begin = layers_before(model, -1) + within

    def one(pair: tuple[Switches, Array, Array]) -> Array:
        switch, layer, source = pair
        on = layer_slice(switch, begin + layer)

        def attend_at(
            site: Site,
            query: Array,
            own: KeysValues | None,
            scale: float,
            span: Any = None,
            softcap: float | None = None,
        ) -> Array:
            edges = site_edges(site, on, positions, View())
            if own is not None:
                allowed = sees(rows, rows, span, blocks, blocks)[:, None]
                return attend(query, own[0], _like(source, own[0]), scale, allowed, edges, softcap)
            assert outside is not None, "the site reads what is outside its stack"
            keys = _with_sources(outside.key[layer], source)
            return attend_outside(query, keys, scale, softcap, real_positions(model, batch, site.reads), edges)

        return _seen(stack.groups[group].block(layer), hidden[within + layer], rotation, site, attend_at)

    return jax.lax.map(one, (switches, layers, sources))


def _layer_inputs(model: Model, base: BaseRun, batch: Batch) -> Float[Array, "layer 1 position width"]:
    """The base run's, of the main stack at all positions: it has kept those of some rows alone."""
    stack, inputs = model.stacks[-1], batch.inputs[-1]
    before = base.left[-1] if base.left else None
    x = model.enter(len(model.stacks) - 1, inputs.tokens, inputs.ids, base.features, before)
    names = [stack_name(one) for one in model.stacks[:-1]]
    real = {name: known for name in names if (known := real_positions(model, batch, name)) is not None}
    added = model.added(len(model.stacks) - 1, inputs.tokens, base.features)
    kept = jnp.zeros_like(inputs.length), x.shape[1]
    return run_stack(stack, x, inputs, base.keys[-1].outside, real, added, kept, answer_only=False)[2]


class Shown(NamedTuple):
    """What of the fast engine is looked at: a site of a group of blocks, over so many rows behind so long a prefix."""

    site: Site
    group: int
    rows: int
    prefix: int


@partial(Program, static=("shown",))
def _fast(
    net: Network,
    base: BaseRun,
    batch: Batch,
    positions: Positions,
    switches: Switches,
    layers: Int[Array, " pair"],
    sources: Float[Array, "pair source"],
    shown: Shown,
) -> Float[Array, "pair head row"]:
    model, (site, group, rows, prefix) = net.module(), shown
    stack, inputs, keys = model.stacks[-1], batch.inputs[-1], base.keys[-1]
    first = base.first[-1]
    at = Rows(first[:, None] + jnp.arange(rows), first, rows)
    added = model.added(len(model.stacks) - 1, inputs.tokens, base.features)
    rotation = side_by_side(rotation_at(stack, inputs, at.query, added))
    within = group_begins(stack)[group]
    begin = layers_before(model, -1) + within
    own, outside = keys.own[group], keys.outside[group]
    real = real_positions(model, batch, site.reads) if site.reads != OWN else None

    def one(pair: tuple[Switches, Array, Array]) -> Array:
        switch, layer, source = pair
        on = jax.tree.map(lambda part: part[begin + layer][None, None], switch)
        # Of the block's other site, which reads something else, nothing is looked at.
        mine = source if site.reads == OWN else jnp.zeros(inputs.tokens.shape[1])
        shared = None if own is None else _with_sources(own.key[layer, ..., :prefix], mine)
        read = None if outside is None else _with_sources(outside.key[layer], source)

        def own_rows(given: KeysValues) -> KeysValues:
            return given[0], _like(jax.lax.dynamic_slice_in_dim(mine, first[0], rows), given[0])

        under = Under(at, inputs, on, positions)
        attend_at = under.attend(Reads(shared, read, None, real), own_rows)
        x = base.hidden[-1][within + layer][:, None]
        return _seen(stack.groups[group].block(layer), x, rotation, site, attend_at)

    return jax.lax.map(one, (switches, layers, sources))
