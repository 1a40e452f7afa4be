"""Small random models of every form that the engines know: unlike blocks, sliding windows, one stack or two.

No published model is like these; they exist so that the engines can be compared where no family goes yet.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.knockout.tiny_study import TinyPrompt
from tests.random_network import random_network
from xmflow_jax.data import roles
from xmflow_jax.data.place import Place
from xmflow_jax.nn.anatomy import MAIN, NOTHING, VISUAL, Anatomy, Site, StackShape
from xmflow_jax.nn.deepstack import AddingBlocks, deep_features
from xmflow_jax.nn.interfaces import Attend, BlockGroup, Drop, KeysValues
from xmflow_jax.nn.interfaces import Rows as RowsOf
from xmflow_jax.nn.layers import RMSNorm, StackedBlocks, stack_blocks
from xmflow_jax.nn.network import Network
from xmflow_jax.nn.pictures import features_in_order
from xmflow_jax.nn.rotary import rotary, rotate

VOCABULARY, IMAGE_TOKEN, WIDTH, PATCHES = 40, 39, 16, 4
EARLIER = "queries"


@dataclass(frozen=True)
class GroupForm:
    """Some blocks alike.

    Attributes:
        own: they read their own stack.
        reads: what else they read: VISUAL, the earlier stack's name, or None.
        span: of their sliding window; None: none.
        softcap: of their attention logits.
    """

    layers: int
    own: bool = True
    reads: str | None = None
    span: int | None = None
    softcap: float | None = None


@dataclass(frozen=True)
class Form:
    """A model: the groups of each stack, and whether the main stack's image positions hold what the earlier one left.

    Attributes:
        earlier: the earlier stack's groups; None: there is no earlier stack.
        added: so many of the main stack's blocks, the first ones, add features of their own.
    """

    main: tuple[GroupForm, ...]
    earlier: tuple[GroupForm, ...] | None = None
    heads: int = 4
    kv_heads: int = 2
    added: int = 0


class FormBlock(nnx.Module):
    """Pre-norm attention sublayers, as many as the form says, and an MLP."""

    def __init__(self, stack: str, group: GroupForm, form: Form, *, rngs: nnx.Rngs) -> None:
        def linear(inputs: int, outputs: int, gain: float = 1.0) -> nnx.Linear:
            normal = nnx.initializers.normal(gain * inputs**-0.5)
            return nnx.Linear(inputs, outputs, use_bias=False, kernel_init=normal, rngs=rngs)

        width, head = WIDTH, WIDTH // form.heads
        if group.own:
            self.norm, self.q, self.o = norm(rngs), linear(width, width, 3.0), linear(width, width)
            self.k, self.v = linear(width, form.kv_heads * head), linear(width, form.kv_heads * head)
        if group.reads:
            self.cross_norm, self.cross_q, self.cross_o = norm(rngs), linear(width, width, 3.0), linear(width, width)
            self.cross_k, self.cross_v = linear(width, width), linear(width, width)
        self.mlp_norm, self.up, self.down = norm(rngs), linear(width, 2 * width), linear(2 * width, width)
        self.stack, self.group, self.head = stack, group, head

    def _by_head(self, x: Any) -> Any:
        return x.reshape(*x.shape[:-1], -1, self.head)

    def __call__(self, x: Any, rotation: Any, attend: Attend, drop: Drop, rows: RowsOf) -> Any:
        group, scale = self.group, self.head**-0.5
        wanted = rows(x)
        if group.own:
            site, normed = Site(self.stack, "self"), self.norm(x)
            own = rotate(self._by_head(self.k(normed)), rotation), self._by_head(self.v(normed))
            query = rotate(self._by_head(self.q(rows(normed))), (rows(rotation[0]), rows(rotation[1])))
            attended = attend(site, query, own, scale, group.span, group.softcap)
            wanted = wanted + drop(site, self.o(attended.reshape(*attended.shape[:-2], -1)))
        if group.reads:
            site = Site(self.stack, "cross", group.reads)
            query = self._by_head(self.cross_q(self.cross_norm(wanted)))
            attended = attend(site, query, None, scale, None, group.softcap)
            wanted = wanted + drop(site, self.cross_o(attended.reshape(*attended.shape[:-2], -1)))
        hidden = jax.nn.silu(self.up(self.mlp_norm(wanted)))
        return wanted + drop(Site(self.stack, "mlp", NOTHING), self.down(hidden))

    def read(self, source: Any) -> KeysValues:
        return self._by_head(self.cross_k(source)), self._by_head(self.cross_v(source))


def norm(rngs: nnx.Rngs) -> RMSNorm:
    return RMSNorm(WIDTH, 1e-5, dtype=jnp.float32, rngs=rngs)


def sites_of(stack: str, group: GroupForm) -> tuple[Site, ...]:
    own = (Site(stack, "self"),) if group.own else ()
    other = (Site(stack, "cross", group.reads),) if group.reads else ()
    return (*own, *other, Site(stack, "mlp", NOTHING))


class FormStack(nnx.Module):
    """Groups of blocks, word embeddings and three-axis rotary ids, of which the second counts."""

    def __init__(self, name: str, groups: tuple[GroupForm, ...], form: Form, *, rngs: nnx.Rngs) -> None:
        self.words = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs, embedding_init=nnx.initializers.normal(1.0))
        self.blocks = nnx.List(
            [
                stack_blocks(lambda r, group=group: FormBlock(name, group, form, rngs=r), group.layers, rngs)
                for group in groups
            ]
        )
        self.name, self.forms, self.head = name, groups, WIDTH // form.heads
        self.added = form.added if name == MAIN else 0

    @property
    def groups(self) -> tuple[BlockGroup, ...]:
        plain = [
            StackedBlocks(blocks, group.layers, sites_of(self.name, group))
            for blocks, group in zip(self.blocks, self.forms, strict=True)
        ]
        if not self.added:
            return tuple(plain)
        begins = np.cumsum([0, *(group.layers for group in plain)])[:-1]
        return tuple(AddingBlocks(one, int(begin), self.added) for one, begin in zip(plain, begins, strict=True))

    def rotation(self, ids: Any) -> Any:
        return rotary(ids[..., 1, :], self.head, 100.0)

    def embed(self, tokens: Any, ids: Any) -> Any:
        return self.words.embedding[...][tokens]


class FormModel(nnx.Module):
    """Image patches through one linear layer; one stack, or two of which the second takes what the first leaves."""

    def __init__(self, form: Form, *, rngs: nnx.Rngs) -> None:
        self.patches = nnx.Linear(3, WIDTH, rngs=rngs, kernel_init=nnx.initializers.normal(1.0))
        if form.earlier:
            self.earlier = FormStack(EARLIER, form.earlier, form, rngs=rngs)
        self.main = FormStack(MAIN, form.main, form, rngs=rngs)
        if form.added:
            self.deep = nnx.Linear(3, form.added * WIDTH, rngs=rngs, kernel_init=nnx.initializers.normal(1.0))
        self.final, self.head = norm(rngs), nnx.Linear(WIDTH, VOCABULARY, use_bias=False, rngs=rngs)
        self.form = form

    @property
    def stacks(self) -> tuple[FormStack, ...]:
        return (self.earlier, self.main) if self.form.earlier else (self.main,)

    def visual(self, pixels: Any) -> Any:
        patches = pixels.reshape(len(pixels), -1, 3)
        first = self.patches(patches)
        return jnp.concatenate([first, self.deep(patches)], axis=-1) if self.form.added else first

    def enter(self, stack: int, tokens: Any, ids: Any, features: Any, before: Any) -> Any:
        words = self.stacks[stack].embed(tokens, ids)
        visual = features[..., :WIDTH] if before is None else before
        is_image = tokens == IMAGE_TOKEN
        return features_in_order(words, is_image, visual)

    def added(self, stack: int, tokens: Any, features: Any) -> Any:
        deep = self.form.added and self.stacks[stack].name == MAIN
        return deep_features(tokens, IMAGE_TOKEN, features[..., WIDTH:]) if deep else None

    def norm(self, x: Any) -> Any:
        return self.final(x)

    def unembed(self, x: Any) -> Any:
        return 3 * self.head(x)


def network(form: Form, seed: int = 0) -> Network:
    """Of random weights."""
    return random_network(lambda: FormModel(form, rngs=nnx.Rngs(0)), seed)


def anatomy(form: Form) -> Anatomy:
    """The form's stacks as data."""
    stacks = {**({EARLIER: form.earlier} if form.earlier else {}), MAIN: form.main}
    shapes = [
        StackShape(name, tuple(sites_of(name, group) for group in groups for _ in range(group.layers)), form.heads)
        for name, groups in stacks.items()
    ]
    return Anatomy(tuple(shapes), VOCABULARY)


@dataclass(frozen=True, eq=False)
class EarlierPrompt:
    """What the earlier stack reads."""

    token_ids: np.ndarray
    roles: dict[str, np.ndarray]
    place: Place


def random_prompt(rng: np.random.Generator, form: Form, blocked: bool) -> TinyPrompt:
    """System words, the image, the question, words of the template, ids on three axes; positions in blocks, if asked.

    Args:
        blocked: the image's positions see each other, or the whole prompt does, or some runs of it do.
    """
    counts = rng.integers([1, PATCHES, 2, 0], [4, PATCHES + 1, 6, 4])
    ends = np.cumsum(counts)
    length = int(ends[-1])
    place = np.arange(length)
    mask = {role: np.zeros(length, bool) for role in roles.ROLES}
    mask[roles.SYSTEM] = place < ends[0]
    mask[roles.IMAGE] = (place >= ends[0]) & (place < ends[1])
    mask[roles.IMAGE_CENTRAL_OBJECT] = mask[roles.IMAGE] & (place % 2 == 0)
    mask[roles.IMAGE_WITHOUT_CENTRAL_OBJECT] = mask[roles.IMAGE] & ~mask[roles.IMAGE_CENTRAL_OBJECT]
    mask[roles.QUESTION] = (place >= ends[1]) & (place < ends[2])
    mask[roles.LAST] = place == length - 1
    mask[roles.ALL] = np.ones(length, bool)
    if any(group.reads == VISUAL for group in form.main):
        # Image roles are over what that site reads.
        visual = np.arange(PATCHES)
        mask[roles.IMAGE], mask[roles.IMAGE_CENTRAL_OBJECT] = visual >= 0, visual % 2 == 0
        mask[roles.IMAGE_WITHOUT_CENTRAL_OBJECT] = visual % 2 == 1
    tokens = rng.integers(1, IMAGE_TOKEN, length).astype(np.int32)
    tokens[ends[0] : ends[1]] = IMAGE_TOKEN
    before = {EARLIER: earlier_prompt(rng, form)} if form.earlier else {}
    own = Place(*random_ids(rng, length), random_blocks(rng, ends) if blocked else None, entry=entry_of(form, ends))
    pixels = rng.normal(size=(1, 2, 2, 3)).astype(np.float32)
    return TinyPrompt(tokens, pixels, mask, own, before)


def entry_of(form: Form, ends: np.ndarray) -> int:
    """The first main position that depends on the earlier stack."""
    return 0 if any(group.reads == EARLIER for group in form.main) else int(ends[0])


def random_ids(rng: np.random.Generator, length: int) -> tuple[np.ndarray, int]:
    """Ids on three axes, and what a generated position adds."""
    return np.sort(rng.integers(0, length, (3, length)), axis=1).astype(np.int32), int(rng.integers(-2, 3))


def random_blocks(rng: np.random.Generator, ends: np.ndarray) -> np.ndarray:
    """The image as a block, the whole prompt as one, or two runs of positions as a block each."""
    length = int(ends[-1])
    numbers = np.zeros(length, np.int32)
    shape = rng.integers(3)
    if shape == 0:
        numbers[ends[0] : ends[1]] = 1
    elif shape == 1:
        numbers[:] = 1
    else:
        first, second, third = np.sort(rng.integers(0, length + 1, 3))
        numbers[first:second], numbers[second:third] = 1, 2
    return numbers


def earlier_prompt(rng: np.random.Generator, form: Form) -> EarlierPrompt:
    """Queries that all see each other, with a role for the first two of them."""
    length = PATCHES + 2
    mask = {role: np.zeros(length, bool) for role in roles.ROLES}
    mask[roles.QUESTION][:2], mask[roles.LAST][-1], mask[roles.ALL][:] = True, True, True
    if any(group.reads == VISUAL for group in form.earlier or ()):
        for role in roles.IMAGE_ROLES:
            mask[role] = np.zeros(PATCHES, bool)
        mask[roles.IMAGE][:], mask[roles.IMAGE_CENTRAL_OBJECT][:2] = True, True
    ids, _ = random_ids(rng, length)
    tokens = rng.integers(1, IMAGE_TOKEN, length).astype(np.int32)
    return EarlierPrompt(tokens, mask, Place(ids, 0, np.ones(length, np.int32)))
