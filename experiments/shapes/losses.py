"""The two stages' losses, over the shipped models' own modules.

The questions of a scene share what comes before them: the image's keys and values are computed once per scene.
"""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from experiments.shapes.batches import ATTRIBUTE_IDS, END_ID, Batch
from xmflow_jax.data.sources.shapes.scenes import VALUES
from xmflow_jax.data.sources.shapes.tokenizer import BEGIN, vocabulary
from xmflow_jax.families.llava.modeling import Llava
from xmflow_jax.families.vision_encoder_decoder.modeling import CrossAttentionModel
from xmflow_jax.nn.anatomy import Site
from xmflow_jax.nn.attention import MASKED, attend
from xmflow_jax.nn.clip import ClipVision, ClipVisionConfig
from xmflow_jax.nn.interfaces import Block, KeysValues, ReadingBlock
from xmflow_jax.nn.layers import split_blocks
from xmflow_jax.nn.stacks import every_row, next_logits, nothing_dropped
from xmflow_jax.nn.visibility import causal_mask

Tree = Any
BEGIN_ID = vocabulary().index(BEGIN)


class PatchReader(nnx.Module):
    """The tower with one linear head for each attribute (a shape more: none), which training alone has."""

    def __init__(self, config: ClipVisionConfig, *, rngs: nnx.Rngs) -> None:
        self.tower = ClipVision(config, dtype=jnp.float32, rngs=rngs)
        sizes = {attribute: len(values) for attribute, values in VALUES.items()}
        sizes["shape"] += 1
        self.heads = nnx.Dict({name: nnx.Linear(config.width, size, rngs=rngs) for name, size in sizes.items()})
        self.centre = nnx.Linear(config.width, 2, rngs=rngs)

    def __call__(self, pixels: Array) -> tuple[dict[str, Array], Array]:
        hidden = self.tower.hidden_state(pixels, -1)[:, 1:]
        return {name: head(hidden) for name, head in self.heads.items()}, self.centre(hidden)


def cross_entropy(logits: Float[Array, "*batch choice"], label: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Negative log-likelihood; labels below 0 count as 0 (mask them)."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(label, 0)[..., None], axis=-1)[..., 0]


def masked_mean(values: Array, mask: Array) -> Array:
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1)


def vision_loss(graphdef: Any, params: Tree, batch: Batch) -> tuple[Array, dict[str, Array]]:
    """What every patch's object is (cross-entropy) and where (twice the squared error), and how many are all right."""
    logits, centre = nnx.merge(graphdef, params)(batch.pixels)
    there = batch.patches[..., 0] >= 0
    labels = {name: batch.patches[..., index] for index, name in enumerate(VALUES)}
    labels["shape"] = jnp.where(there, labels["shape"], len(VALUES["shape"]))
    masks = {name: there if name != "shape" else jnp.ones_like(there) for name in VALUES}
    losses = [masked_mean(cross_entropy(logits[name], labels[name]), masks[name]) for name in VALUES]
    loss = sum(losses, jnp.zeros(())) + 2 * masked_mean(jnp.square(centre - batch.centres).sum(-1), there)
    right = jnp.stack([(logits[name].argmax(-1) == labels[name]) | ~masks[name] for name in VALUES]).all(0)
    return loss, {"patches": right.mean()}


def shared_attend(
    query: Float[Array, "scene question position head width"],
    key: Float[Array, "scene question position head width"],
    value: Float[Array, "scene question position head width"],
    before_key: Float[Array, "scene source head width"],
    before_value: Float[Array, "scene source head width"],
    scale: float,
) -> Float[Array, "scene question position head width"]:
    """Causal attention within each question and to what its scene shares, one softmax over both."""
    scenes, questions, length, heads, width = query.shape
    # All rows of a scene side by side, so that reading what they share is one matmul for each head.
    rows = query.reshape(scenes, -1, heads, width).swapaxes(1, 2)
    before = jnp.einsum("shnd,sphd->shnp", rows, before_key) * scale
    by_question = rows.reshape(scenes, heads, questions, length, width)
    own = jnp.einsum("shqtd,sqrhd->shqtr", by_question, key) * scale
    own = jnp.where(causal_mask(length), own, MASKED).reshape(*rows.shape[:3], length)
    peak = jax.lax.stop_gradient(jnp.maximum(before.max(-1, keepdims=True), own.max(-1, keepdims=True)))
    before, own = jnp.exp(before - peak), jnp.exp(own - peak)
    attended = jnp.einsum("shnp,sphd->shnd", before, before_value)
    by_question = own.reshape(scenes, heads, questions, length, length)
    attended += jnp.einsum("shqtr,sqrhd->shqtd", by_question, value).reshape(rows.shape)
    attended /= before.sum(-1, keepdims=True) + own.sum(-1, keepdims=True)
    return attended.swapaxes(1, 2).reshape(query.shape)


def llava_hidden(model: Llava, visual: Array, tokens: Array) -> Array:
    """Hidden states of every question's positions [scene question position width], before the final norm.

    All positions are rows of one matrix outside attention, which a CPU multiplies twice as fast as a 4-D array.
    """
    decoder: Any = model.language_model
    scenes, questions, length = tokens.shape
    # The decoder's embeddings do not depend on where a word stands.
    begin = decoder.embed(jnp.full((scenes, 1), BEGIN_ID), jnp.zeros((1, 1, 1), int))
    words = decoder.embed(tokens, jnp.zeros((1, 1, 1, length), int))
    before = jnp.concatenate([begin, visual], axis=1)
    shared, width = before.shape[1:]
    split = scenes * shared
    positions = jnp.concatenate(
        [jnp.tile(jnp.arange(shared), scenes), jnp.tile(shared + jnp.arange(length), scenes * questions)]
    )
    rotation = decoder.rotation(positions[None])
    block_of, stacked = split_blocks(decoder.layers)

    def parts(rows: Array) -> tuple[Array, Array]:
        own = rows[split:].reshape(scenes, questions, length, *rows.shape[1:])
        return rows[:split].reshape(scenes, shared, *rows.shape[1:]), own

    def attend_at(
        site: Site, query: Array, own: KeysValues | None, scale: float, span: Any = None, softcap: float | None = None
    ) -> Array:
        assert own is not None, "the decoder reads its own positions alone"
        (before_query, query), (before_key, key), (before_value, value) = map(parts, (query, *own))
        before = attend(before_query, before_key, before_value, scale, causal_mask(shared)[None])
        asked = shared_attend(query, key, value, before_key, before_value, scale)
        return jnp.concatenate([x.reshape(-1, *x.shape[-2:]) for x in (before, asked)])

    def layer(rows: Array, parameters: Tree) -> tuple[Array, None]:
        block = cast(Block, block_of(parameters))
        return block(rows, rotation, attend_at, nothing_dropped, every_row), None

    rows = jnp.concatenate([before.reshape(-1, width), words.reshape(-1, width)])
    # Unrolled, which on a CPU is a quarter faster and compiles in seconds at this size.
    rows, _ = jax.lax.scan(layer, rows, stacked, unroll=True)
    return parts(rows)[1]


def cross_attention_hidden(model: CrossAttentionModel, visual: Array, tokens: Array) -> Array:
    """As `llava_hidden`, with the image read by cross-attention; the beginning-of-sequence token comes first."""
    decoder = model.language_model
    tokens = jnp.pad(tokens, ((0, 0), (0, 0), (1, 0)), constant_values=BEGIN_ID)
    scenes, questions, length = tokens.shape
    block_of, stacked = split_blocks(decoder.layers)
    causal = causal_mask(length)[None]

    def by_question(rows: Array) -> Array:
        return rows.reshape(scenes * questions, length, *rows.shape[1:])

    def layer(rows: Array, parameters: Tree) -> tuple[Array, None]:
        block = cast(ReadingBlock, block_of(parameters))

        def attend_at(
            site: Site,
            query: Array,
            own: KeysValues | None,
            scale: float,
            span: Any = None,
            softcap: float | None = None,
        ) -> Array:
            if own is not None:
                key, value = map(by_question, own)
                attended = attend(by_question(query), key, value, scale, causal)
            else:
                key, value = block.read(visual)
                attended = attend(query.reshape(scenes, -1, *query.shape[1:]), key, value, scale)
            return attended.reshape(query.shape)

        return block(rows, None, attend_at, nothing_dropped, every_row), None

    ids = jnp.broadcast_to(jnp.arange(length), (scenes, questions, 1, length))
    rows = decoder.embed(tokens, ids)
    width = rows.shape[-1]
    rows, _ = jax.lax.scan(layer, rows.reshape(-1, width), stacked, unroll=True)
    return rows.reshape(scenes, questions, length, width)[:, :, 1:]


def alignment_loss(logits: Float[Array, "scene patch vocabulary"], batch: Batch, sides: bool) -> Array:
    """Cross-entropy of each object patch's attribute words, among the words of that attribute."""
    losses = []
    for index, (name, ids) in enumerate(ATTRIBUTE_IDS.items()):
        if name in VALUES or sides:
            label = batch.patches[..., index]
            losses.append(masked_mean(cross_entropy(logits[..., jnp.array(ids)], label), label >= 0))
    return sum(losses, jnp.zeros(()))


def decoder_loss(
    graphdef: Any, params: Tree, vision: Tree, batch: Batch, settings: Mapping[str, Any]
) -> tuple[Array, dict[str, Array]]:
    """Answer and end of answer (cross-entropy), plus the weighted alignment; and right answers by question.

    Args:
        params, vision: the model's state without the tower, and the tower's, which is not trained.
        settings: `alignment` and `sides` of the recipe.
    """
    model = nnx.merge(graphdef, params, vision)
    visual = model.visual(batch.pixels[:, None])
    hidden_of = llava_hidden if isinstance(model, Llava) else cross_attention_hidden
    hidden = hidden_of(model, visual, batch.tokens)
    read = jnp.stack([batch.cue_end, batch.cue_end + 1], axis=-1)
    logits = next_logits(model, jnp.take_along_axis(hidden, read[..., None], axis=2))
    label = jnp.stack([batch.answer, jnp.full_like(batch.answer, END_ID)], axis=-1)
    answer = cross_entropy(logits, label).mean((0, 1)).sum()
    words = model.language_model.embed_tokens.embedding[...]
    aligned = alignment_loss(visual @ words.T, batch, settings["sides"])
    right = logits[:, :, 0].argmax(-1) == batch.answer
    return answer + settings["alignment"] * aligned, {"right": right, "answer_loss": answer, "alignment_loss": aligned}
