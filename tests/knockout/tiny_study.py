"""A tiny random LLaVA and random prompts with roles, for the engines' tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.knockout.anatomies import anatomy_of
from tests.random_network import random_network
from xmflow_jax.data import roles
from xmflow_jax.data.batch import Batch, StackPrompt, build_batch
from xmflow_jax.data.place import Place, plain_place
from xmflow_jax.families.llava.modeling import Llava, LlavaConfig
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.arrays import Positions, build_positions
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.plain import sweep_plain
from xmflow_jax.knockout.study import Study, build_study
from xmflow_jax.machine.compiler import Program
from xmflow_jax.nn.anatomy import MLP, SELF
from xmflow_jax.nn.clip import ClipVisionConfig
from xmflow_jax.nn.llama import LlamaConfig
from xmflow_jax.nn.network import Network

VOCABULARY = 50
# What a model without cross-attention can leave out.
LLAVA_OUTPUTS = (SELF, MLP)
IMAGE_TOKEN = VOCABULARY - 1


@dataclass(frozen=True, eq=False)
class TinyPrompt:
    token_ids: np.ndarray
    pixels: np.ndarray
    roles: Mapping[str, np.ndarray]
    own_place: Place | None = None
    before: Mapping[str, StackPrompt] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """0, 1, ... unless the prompt says otherwise."""
        return plain_place(len(self.token_ids)) if self.own_place is None else self.own_place


@lru_cache
def tiny_llava(
    layers: int = 4, heads: int = 4, kv_heads: int = 2, head_width: int = 6, tied: bool = False, grid: int = 2
) -> tuple[LlavaConfig, Network]:
    """(configuration, network) with attention far from uniform."""
    config = LlavaConfig(
        ClipVisionConfig(14 * grid, 14, width=16, mlp_width=24, layers=2, heads=2),
        LlamaConfig(VOCABULARY, 24, 40, layers, heads, kv_heads, head_width, tied=tied),
        image_token=IMAGE_TOKEN,
    )
    net = random_network(lambda: Llava(config, rngs=nnx.Rngs(0)))
    # Sharper queries, and images as loud as words, so that every knockout has an effect far above rounding.
    for path, leaf in nnx.to_flat_state(net.params):
        if "q_proj" in path and "language_model" in path:
            leaf.set_value(leaf.get_value() * 3)
        if ("embed_tokens" in path and not tied) or "linear_2" in path:
            leaf.set_value(leaf.get_value() * 3)
    return config, net


def tiny_prompt(
    seed: int, before: int = 3, question: int = 4, after: int = 3, grid: int = 2, question_first: bool = False
) -> TinyPrompt:
    """System words, then image and question in either order, then words of the template."""
    rng = np.random.default_rng(seed)
    visual = grid**2
    length = before + visual + 1 + question + after
    mask = {role: np.zeros(length, bool) for role in roles.ROLES}
    image = before + question + 1 if question_first else before
    asked = before if question_first else before + visual + 1
    mask[roles.SYSTEM][:before] = True
    mask[roles.IMAGE][image : image + visual] = True
    mask[roles.IMAGE_CENTRAL_OBJECT][image + 1 : image + 3] = True
    mask[roles.IMAGE_WITHOUT_CENTRAL_OBJECT] = mask[roles.IMAGE] & ~mask[roles.IMAGE_CENTRAL_OBJECT]
    mask[roles.IMAGE_PAD][image] = True
    mark_question(mask, asked, question)
    tokens = rng.integers(1, IMAGE_TOKEN, length).astype(np.int32)
    tokens[mask[roles.IMAGE]] = IMAGE_TOKEN
    pixels = rng.normal(size=(1, 14 * grid, 14 * grid, 3)).astype(np.float32)
    return TinyPrompt(tokens, pixels, mask)


def mark_question(mask: dict[str, np.ndarray], begin: int, words: int) -> None:
    """The roles of a question of so many words, the second and third of which are the options, and those that every
    prompt has."""
    mask[roles.QUESTION][begin : begin + words] = True
    mask[roles.TRUE_OPTION][begin + 1] = True
    mask[roles.FALSE_OPTION][begin + 2] = True
    mask[roles.QUESTION_WITHOUT_OPTIONS] = mask[roles.QUESTION] & ~mask[roles.TRUE_OPTION] & ~mask[roles.FALSE_OPTION]
    mask[roles.CENTRAL_OBJECT][begin] = True
    mask[roles.LAST][-1] = True
    mask[roles.ALL][:] = True


def arrays(prompts: Sequence[TinyPrompt], study: Study) -> tuple[Batch, Positions]:
    batch = build_batch(prompts)
    return batch, build_positions(prompts, study.actions, batch.tokens.shape[1])


def both_engines(
    knockouts: Sequence[Knockout], prompts: Sequence[TinyPrompt], **model: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(base logits of the fast engine, its knockouts, the plain engine's), the last two [batch, config, word]."""
    return both_engines_of(tiny_llava(**model), knockouts, prompts)


def both_engines_of(
    model: tuple[Any, Network], knockouts: Sequence[Knockout], prompts: Sequence[TinyPrompt]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `both_engines`, of any (configuration, network)."""
    config, net = model
    study = build_study(knockouts, anatomy_of(config))
    batch, positions = arrays(prompts, study)
    fast = sweep_fast(net, batch, positions, study)
    plain = run_plain(net, batch, positions, study.switches, count=len(knockouts))
    return np.asarray(fast.base), np.asarray(fast.knockout), np.asarray(plain).swapaxes(0, 1)


run_plain = Program(sweep_plain, ("at_once", "count"))


def widest(x: Any) -> Any:
    """Parameters in float64, for telling noise from bugs."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), x)
