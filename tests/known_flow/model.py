"""A LLaVA whose weights are set by hand, so that what flows where is known: nothing is learned, nothing is random.

Every patch holds one of two contents: the objects' patches a first one, all others a second one, each of them +1 or
-1. An answer names both signs. Every word carries flags (a word of the question, the position that answers, the
begin-of-text token where attention rests when it has nothing to read). A layer does nothing unless the flow names it;
then one head, saturated, moves one content from one kind of position to another. Where a content has not arrived,
`none` wins over every answer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.random_network import empty_arrays
from xmflow_jax.data.sources.shapes.tokenizer import BEGIN, LLAVA_TEMPLATE, vocabulary, write_shapes_tokenizer
from xmflow_jax.data.templates import write_prompt_file
from xmflow_jax.families.llava.modeling import Llava, LlavaConfig
from xmflow_jax.families.registry import LLAVA
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.study.shipped import write_image_processor
from xmflow_jax.weights.export import write_checkpoint

IMAGE_SIZE, PATCH = 56, 14

# Channels of the decoder's hidden state. In the image, OBJECT and REST hold the contents and KIND is +1 in the objects'
# patches, -1 elsewhere; the question and the answering position keep what they have read in channels of their own.
ONE, IMAGE_FLAG, QUESTION_FLAG, LAST_FLAG, BEGIN_FLAG, OBJECT, REST, KIND = range(8)
READ: Final = {"question": {OBJECT: 8, REST: 9}, "last": {OBJECT: 10, REST: 11}}
WIDTH = 16

# Of an attention head: pairs (i, i + HALF) that rotary positions turn by next to nothing, with this base.
HEAD_WIDTH, HALF, THETA = 16, 8, 1e16
SLOW = (5, 6, 7)
GAIN = 400.0

ANSWERS: Final = {(1, 1): "red", (1, -1): "blue", (-1, 1): "yes", (-1, -1): "no"}
NONE: Final = "left"


@dataclass(frozen=True)
class Flow:
    """Which layer moves what.

    Attributes:
        objects, rest: layers in which the question reads the contents of the objects' patches and of the others.
        answer: the layer in which the last position reads the question.
        straight: the layer in which the last position reads both contents off the image.
        layers: of the decoder.
    """

    layers: int
    objects: int | None = None
    rest: int | None = None
    answer: int | None = None
    straight: int | None = None


def head(query: int, keys: Mapping[int, float], moved: Mapping[int, int]) -> dict[str, np.ndarray]:
    """Projections [in, out] of one head: positions with the flag `query` read the positions that the keys' channels
    (with these signs) mark, and everyone else the begin-of-text token; `moved` maps read channels to written ones."""
    q, k, v, o = (np.zeros(shape, np.float32) for shape in ((WIDTH, HEAD_WIDTH),) * 3 + ((HEAD_WIDTH, WIDTH),))
    seeking, resting, _ = SLOW
    q[query, seeking], q[ONE, resting] = 4 * GAIN, GAIN
    for channel, sign in keys.items():
        k[channel, seeking] = sign
    k[BEGIN_FLAG, resting] = 1.0
    for slot, (read, written) in enumerate(moved.items()):
        # What is read is normed; the norm is 1/2 wherever a content stands (four channels of sixteen are +1 or -1).
        v[read, slot], o[slot, written] = 1.0, 0.5
    return {"q_proj": q, "k_proj": k, "v_proj": v, "o_proj": o}


def add_heads(flow: Flow) -> dict[int, dict[str, np.ndarray]]:
    """The projections of the layers that do something. Two heads in every layer: one for each content."""
    question, last = READ["question"], READ["last"]
    at: dict[int, list[dict[str, np.ndarray]]] = {}
    if flow.objects is not None:
        at.setdefault(flow.objects, []).append(head(QUESTION_FLAG, {KIND: 1.0}, {OBJECT: question[OBJECT]}))
    if flow.rest is not None:
        at.setdefault(flow.rest, []).append(head(QUESTION_FLAG, {IMAGE_FLAG: 0.5, KIND: -0.5}, {REST: question[REST]}))
    if flow.answer is not None:
        at.setdefault(flow.answer, []).append(
            head(LAST_FLAG, {QUESTION_FLAG: 1.0}, {question[c]: last[c] for c in last})
        )
    if flow.straight is not None:
        at.setdefault(flow.straight, []).append(head(LAST_FLAG, {KIND: 1.0}, {OBJECT: last[OBJECT]}))
        at.setdefault(flow.straight, []).append(head(LAST_FLAG, {IMAGE_FLAG: 0.5, KIND: -0.5}, {REST: last[REST]}))
    nothing = head(QUESTION_FLAG, {}, {})
    return {
        layer: {
            name: np.concatenate([one[name] for one in (*heads, nothing)[:2]], axis=0 if name == "o_proj" else 1)
            for name in nothing
        }
        for layer, heads in at.items()
    }


def write_flow_model(folder: Path, flow: Flow) -> Path:
    """The whole checkpoint directory; returns `folder`."""
    folder.mkdir(parents=True)
    words = write_shapes_tokenizer(folder)
    write_image_processor(folder, IMAGE_SIZE, mean=(0.5,) * 3, deviation=(0.5,) * 3)
    write_prompt_file(folder, LLAVA_TEMPLATE)
    vision = ClipVisionConfig(IMAGE_SIZE, PATCH, width=8, mlp_width=8, layers=2, heads=1)
    text = LlamaConfig(
        words, width=WIDTH, mlp_width=8, layers=flow.layers, heads=2, kv_heads=2, head_width=HEAD_WIDTH,
        rope_theta=THETA,
    )  # fmt: skip
    config = LlavaConfig(vision, text, image_token=words - 1)
    _, state, arrays = empty_arrays(lambda: Llava(config, rngs=nnx.Rngs(0)))
    fill_image(arrays)
    fill_words(arrays)
    for layer, projections in add_heads(flow).items():
        for name, kernel in projections.items():
            arrays["language_model", "layers", "self_attn", name, "kernel"][layer] = kernel
    filled = [(path, leaf.replace(jnp.asarray(arrays[path]))) for path, leaf in nnx.to_flat_state(state)]
    write_checkpoint(folder, LLAVA, config, nnx.from_flat_state(filled))
    return folder


def fill_image(arrays: dict[tuple[str, ...], Any]) -> None:
    """Tower and projector: a patch's colours become its content. Red is the objects' content, green the others', blue
    tells which of the two a patch is."""
    for path, array in arrays.items():
        if path[-1] == "scale":
            array[...] = 1.0
    tower = "vision_tower"
    kernel = arrays[tower, "embeddings", "patch_embedding"]
    for colour in range(3):
        kernel[:, :, colour, 2 * colour] = 1 / PATCH**2
        kernel[:, :, colour, 2 * colour + 1] = -1 / PATCH**2
    arrays[tower, "embeddings", "position_embedding"][:, 6:8] = (1.0, -1.0)
    # Of the eight channels two are zero and the others +1 or -1.
    arrays[tower, "pre_layrnorm", "scale"][...] = np.sqrt(0.75)
    first, second = (("multi_modal_projector", f"linear_{number}") for number in (1, 2))
    # GELU is the identity far above zero: ten is added before it and taken off after it.
    arrays[*first, "bias"][...] = 10.0
    for feature, channels in ((0, (OBJECT,)), (2, (REST,)), (4, (KIND,)), (6, (ONE, IMAGE_FLAG))):
        arrays[*first, "kernel"][feature, feature] = 1.0
        for channel in channels:
            arrays[*second, "kernel"][feature, channel] = 1.0
            arrays[*second, "bias"][channel] = -10.0


def fill_words(arrays: dict[tuple[str, ...], Any]) -> None:
    """Flags of the words, and the answers' rows of the head."""
    embedding = arrays["language_model", "embed_tokens", "embedding"]
    output = arrays["language_model", "lm_head", "kernel"]
    words = vocabulary()
    embedding[:, ONE] = 1.0
    for index, word in enumerate(words):
        flags = {BEGIN: (BEGIN_FLAG,), ":": (LAST_FLAG,), "▁Answer": ()}.get(word, (QUESTION_FLAG,))
        # What reads is as large as an image position: four channels of one.
        embedding[index, list(flags)] = 1.0
    for (objects, rest), answer in ANSWERS.items():
        output[READ["last"][OBJECT], words.index(f"▁{answer}")] = objects
        output[READ["last"][REST], words.index(f"▁{answer}")] = rest
    output[ONE, words.index(f"▁{NONE}")] = 1.5


def describe(flow: Flow) -> str:
    """For test ids."""
    return json.dumps({name: value for name, value in vars(flow).items() if value is not None})
