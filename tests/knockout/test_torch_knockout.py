"""Both engines against PyTorch under knockout: transformers' LLaVA, eager, float32, told what to block.

The six study pathways go the study's way: an explicit additive 4-D mask in the windows' layers. What the study lacks
(modes, heads, outputs, rows with no source left) goes through an eager attention written here in PyTorch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.families.llava.torch_llava import HEAD_LAYOUTS, TextSizes, VisionSizes, build_torch_llava
from tests.knockout.anatomies import prompt_anatomy
from tests.knockout.tiny_study import LLAVA_OUTPUTS, TinyPrompt, arrays, run_plain, tiny_prompt
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.knockout.actions import Knockout, block, keep_only, zero_output
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.kinds.edges import Edges
from xmflow_jax.knockout.measure import Measured, measure
from xmflow_jax.knockout.modes import MODES
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import STYLES
from xmflow_jax.nn.anatomy import SELF

BOUND = 1e-5
LAYERS, HEADS = 5, 4
ANATOMY = prompt_anatomy(LAYERS, HEADS)
PROMPTS = [tiny_prompt(0, grid=3), tiny_prompt(1, grid=3, before=5, question=7, after=4)]


def build(folder: Path, kv_heads: int = 2, tied: bool = False) -> tuple[Any, Any]:
    text = TextSizes(vocabulary=50, layers=LAYERS, heads=HEADS, kv_heads=kv_heads, tied=tied)
    model, directory = build_torch_llava(folder, text, VisionSizes(image_size=42, patch_size=14))
    return model, load_model(directory, "float32")


@contextmanager
def hooked(*handles: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def torch_probabilities(model: Any, prompt: TinyPrompt) -> np.ndarray:
    tokens = torch.tensor(prompt.token_ids[None].astype(np.int64))
    pixels = torch.tensor(prompt.pixels.transpose(0, 3, 1, 2))
    with torch.inference_mode():
        logits = model(input_ids=tokens, pixel_values=pixels, use_cache=False).logits[0, -1]
    return torch.softmax(logits.float(), -1).numpy()


def study_mask(model: Any, prompt: TinyPrompt, knockout: Knockout) -> Callable[[], Any]:
    """Hooks that give the blocked layers the released code's additive mask."""
    ((edges, layers, _),) = knockout.switched
    length = len(prompt.token_ids)
    allowed = np.tril(np.ones((length, length), bool))
    allowed[np.ix_(prompt.roles[edges.target.role], prompt.roles[edges.source.role])] = False
    mask = torch.zeros(1, 1, length, length).masked_fill(~torch.tensor(allowed), torch.finfo(torch.float32).min)

    def replace(_module: Any, args: Any, kwargs: Any) -> Any:
        return args, {**kwargs, "attention_mask": mask}

    blocks = model.model.language_model.layers
    return lambda: hooked(
        *(blocks[layer].self_attn.register_forward_pre_hook(replace, with_kwargs=True) for layer in layers)
    )


def ours(loaded: Any, knockouts: list[Knockout], engine: str) -> Measured:
    study = build_study(knockouts, loaded.anatomy)
    batch, positions = arrays(PROMPTS, study)
    swept = sweep_fast(loaded.net, batch, positions, study)
    logits = swept.knockout
    if engine == "plain":
        logits = run_plain(loaded.net, batch, positions, study.switches, count=len(knockouts)).swapaxes(0, 1)
    return measure(swept.base, logits)


def compare(model: Any, measured: Measured, knockouts: list[Knockout], under: Callable[..., Any]) -> float:
    """Every prompt and configuration; returns the largest effect, which must not be noise."""
    effect = 0.0
    for row, prompt in enumerate(PROMPTS):
        base = torch_probabilities(model, prompt)
        token = int(measured.base_token[row])
        assert token == base.argmax()
        assert abs(float(measured.base_prob[row]) - base[token]) <= BOUND
        for column, knockout in enumerate(knockouts):
            with under(model, prompt, knockout)():
                theirs = torch_probabilities(model, prompt)
            assert abs(float(measured.knockout_prob[row, column]) - theirs[token]) <= BOUND, knockout
            assert int(measured.knockout_token[row, column]) == theirs.argmax(), knockout
            effect = max(effect, abs(theirs[token] - base[token]))
    return effect


# Tied heads with grouped keys, untied ones with as many and with one; the other three take as long again.
@pytest.mark.parametrize(
    ("kv_heads", "tied"),
    [
        pytest.param(kv_heads, tied, id=f"{name}-{word}", marks=[pytest.mark.slow] * (tied != (name == "gqa")))
        for name, kv_heads in HEAD_LAYOUTS.items()
        for word, tied in (("untied", False), ("tied", True))
    ],
)
def test_the_six_study_pathways_at_every_layer(tmp_path: Path, kv_heads: int, tied: bool) -> None:
    model, loaded = build(tmp_path, kv_heads, tied)
    rows = pathway_study([(pathway, "centred") for pathway in STUDY_PATHWAYS], ANATOMY, 3)
    knockouts = [row.knockout for row in rows]
    assert compare(model, ours(loaded, knockouts, "fast"), knockouts, study_mask) > 100 * BOUND


@pytest.fixture(name="family", scope="module")
def fixture_family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return build(tmp_path_factory.mktemp("family"))


@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_every_style_in_both_engines(family: tuple[Any, Any], engine: str) -> None:
    model, loaded = family
    rows = pathway_study([(STUDY_PATHWAYS[3], style) for style in STYLES], ANATOMY, 2)
    knockouts = [row.knockout for row in rows]
    assert compare(model, ours(loaded, knockouts, engine), knockouts, study_mask) > 100 * BOUND


def eager_under(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Any knockout, through an attention of our own in PyTorch: rows with no source left output zero."""

    def under(model: Any, prompt: TinyPrompt, knockout: Knockout) -> Callable[[], Any]:
        length = len(prompt.token_ids)

        def edges(kind: str, layer: int) -> torch.Tensor:
            found = np.zeros((HEADS, length, length), bool)
            for action, layers, heads in knockout.switched:
                if isinstance(action, Edges) and action.mode == kind and layer in layers:
                    pairs = np.outer(action.target.positions(prompt.roles), action.source.positions(prompt.roles))
                    found[list(range(HEADS) if heads is None else heads)] |= pairs
            return torch.tensor(found)

        def attention(module: Any, query: Any, key: Any, value: Any, _mask: Any, scaling: float, **_: Any) -> Any:
            groups = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
            seen = torch.tril(torch.ones(length, length, dtype=torch.bool)) & ~edges("mask", module.layer_idx)
            logits = (query @ key.transpose(2, 3) * scaling).masked_fill(~seen, -torch.inf)
            weights = torch.softmax(logits, -1).nan_to_num(0.0).masked_fill(edges("zero", module.layer_idx), 0.0)
            averaged = edges("mean", module.layer_idx) & seen
            # One row and head after the other: each averaged source gives the mean of all of them.
            means = torch.zeros(*weights.shape[:3], value.shape[-1])
            for head, row in zip(*np.nonzero(averaged.any(-1).numpy()), strict=True):
                sources = averaged[head, row]
                means[0, head, row] = weights[0, head, row, sources].sum() * value[0, head, sources].mean(0)
            attended = weights.masked_fill(averaged, 0.0) @ value + means
            return attended.transpose(1, 2).contiguous(), weights

        def silence(positions: np.ndarray) -> Callable[..., Any]:
            return lambda _module, _inputs, output: output.masked_fill(torch.tensor(positions)[None, :, None], 0.0)

        @contextmanager
        def patched() -> Iterator[None]:
            handles = []
            for action, layers, _ in knockout.switched:
                if not isinstance(action, Edges):
                    for layer in layers:
                        own = model.model.language_model.layers[layer]
                        site = own.self_attn.o_proj if action.site == SELF else own.mlp
                        handles.append(site.register_forward_hook(silence(action.target.positions(prompt.roles))))
            with hooked(*handles), monkeypatch.context() as patch:
                patch.setattr("transformers.models.llama.modeling_llama.eager_attention_forward", attention)
                yield

        return patched

    return under


@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_modes_heads_outputs_and_rows_without_sources(
    family: tuple[Any, Any], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, loaded = family
    image = Pathway("Image", "Question")
    knockouts = [
        *(block(image, [layer], mode) for layer in range(LAYERS) for mode in ("zero", "mean")),
        *(block(image, range(LAYERS), mode, [head]) for head in range(HEADS) for mode in MODES),
        *(block(Pathway("Image", role), range(LAYERS), "mean") for role in ("Image", "Last", "All")),
        *(zero_output(site, role, [1, 2]) for site in LLAVA_OUTPUTS for role in ("Question", "Last")),
        *(block(Pathway("All", role), [2]) for role in ("Last", "Question")),
        *(keep_only(image, [layer], ANATOMY) for layer in (0, 2)),
    ]
    assert compare(model, ours(loaded, knockouts, engine), knockouts, eager_under(monkeypatch)) > 100 * BOUND
