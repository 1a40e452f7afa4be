"""The study's way in PyTorch: batch 1, one full eager pass for every layer and pathway, image encoder included."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText

from experiments.benchmarks.matmul import matmul_rate
from experiments.benchmarks.pictures import PICTURES, Shown
from experiments.benchmarks.workload import Preset, RandomQuestion, spread, study_rows
from xmflow_jax.knockout.pathways import Pathway
from xmflow_jax.knockout.study_rows import StudyRow


@dataclass(frozen=True, eq=False)
class TorchModel:
    """Transformers' model with eager attention, the device that it is on, and the benchmark that it is for."""

    model: Any
    device: str
    preset: Preset

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def run_pytorch(
    preset: Preset, checkpoint: Path, question: RandomQuestion, threads: int | None, token: int | None = None
) -> dict[str, Any]:
    """Time full passes under knockout on one question, after two undisturbed ones.

    Args:
        token: whose probability is told; None: the base run's own.

    Returns:
        seconds of each timed pass, the probabilities of the token, the base run's token, and the indexes of the
        configurations that were run; from `preset.reference_knockouts` of them anew in float32 (`reference_...`), where
        the preset's type is a smaller one, the same.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    reference, rows = load_torch(checkpoint, preset), study_rows(preset)
    cuda = reference.device == "cuda"
    found = run_passes(reference, question, rows, spread(len(rows), preset.torch_knockouts), token) | {
        "device": torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU threads",
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "matmul_rate": _matmul_rate(reference, preset.dtype),
    }
    if preset.dtype != "float32" and preset.reference_knockouts:
        wide = replace(reference, model=reference.model.float())
        again = [found["chosen"][index] for index in spread(len(found["chosen"]), preset.reference_knockouts)]
        anew = run_passes(wide, question, rows, again, token)
        found |= {f"reference_{name}": value for name, value in anew.items()}
    return found


def load_torch(checkpoint: Path, preset: Preset) -> TorchModel:
    """On a GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Float32 means float32; matrix products are so by default.
    torch.backends.cudnn.allow_tf32 = False
    model = AutoModelForImageTextToText.from_pretrained(
        checkpoint, dtype=getattr(torch, preset.dtype), attn_implementation="eager", local_files_only=True
    )
    return TorchModel(model.to(device).eval(), device, preset)


def run_passes(
    reference: TorchModel, question: RandomQuestion, rows: Sequence[StudyRow], chosen: list[int], token: int | None
) -> dict[str, Any]:
    """Two undisturbed passes, then one under each of the chosen configurations, each of them timed."""
    own: dict[int, Any] = {}
    for _ in range(2):
        base = probabilities(reference, question, kept=own)
    masks = BlockedMasks(question, own)
    read = int(base.argmax()) if token is None else token
    seconds, found, tokens = [], [], []
    for index in chosen:
        row = rows[index]
        assert isinstance(row.pathway, Pathway)
        blocked = {layer: masks.mask(row.pathway, layer) for layer in row.knockout.switched[0][1]}
        reference.wait()
        start = time.perf_counter()
        under = probabilities(reference, question, blocked)
        found.append(float(under[read]))
        seconds.append(time.perf_counter() - start)
        tokens.append(int(under.argmax()))
    return {
        "seconds": seconds,
        "base_token": int(base.argmax()),
        "base_prob": float(base[read]),
        "probs": found,
        "tokens": tokens,
        "chosen": chosen,
    }


class BlockedMasks:
    """The model's own additive masks with edges blocked: the smallest number there, as in the study's released code.

    Each is made once, outside of what is timed.
    """

    def __init__(self, question: RandomQuestion, own: Mapping[int, Any]) -> None:
        """The masks that the model gives each layer while nothing is blocked."""
        self.question, self.own, self.made = question, own, dict[tuple[str, int], Any]()

    def mask(self, pathway: Pathway, layer: int) -> Any:
        """What one layer is given under a knockout."""
        mask = self.own[layer]
        # Layers of one form are given one mask.
        key = (str(pathway), id(mask))
        if key not in self.made:
            roles = self.question.roles
            edges = torch.tensor(np.outer(roles[pathway.target], roles[pathway.source]), device=mask.device)
            self.made[key] = mask.masked_fill(edges, torch.finfo(mask.dtype).min)
        return self.made[key]


def probabilities(
    reference: TorchModel,
    question: RandomQuestion,
    blocked: Mapping[int, Any] | None = None,
    kept: dict[int, Any] | None = None,
) -> Any:
    """Of the next token, in float32.

    Args:
        blocked: the masks that these layers are given in place of their own.
        kept: takes every layer's own mask.
    """
    model, device = reference.model, reference.device
    text = getattr(model.model, "language_model", None) or model.model.text_model
    hooks = []

    def hook(layer: int) -> Any:
        def at_attention(_module: Any, args: Any, kwargs: Any) -> Any:
            if kept is not None:
                kept[layer] = kwargs["attention_mask"]
            return args, kwargs if blocked is None else {**kwargs, "attention_mask": blocked[layer]}

        return at_attention

    for layer in range(len(text.layers)) if blocked is None else blocked:
        hooks.append(text.layers[layer].self_attn.register_forward_pre_hook(hook(layer), with_kwargs=True))
    tokens = torch.tensor(question.token_ids[None].astype(np.int64), device=device)
    preset = reference.preset
    shown = Shown(preset.model, question.pixels, preset.picture, question.token_ids)
    given = PICTURES[preset.family.model_type].for_pytorch(shown)
    pictures = {name: torch.tensor(array, device=device) for name, array in given.items()}
    pictures = {name: one.to(model.dtype) if one.is_floating_point() else one for name, one in pictures.items()}
    if hasattr(model.model, "rope_deltas"):  # of the prompt before
        model.model.rope_deltas = None
    with torch.inference_mode():
        output = model(input_ids=tokens, **pictures, use_cache=False, logits_to_keep=1)
        result = torch.softmax(output.logits[0, -1].float(), -1)
    for one in hooks:
        one.remove()
    return result


def _matmul_rate(reference: TorchModel, dtype: str) -> float:
    side = 8192 if reference.device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=reference.device).to(getattr(torch, dtype)) for _ in range(2))
    reference.wait()

    def multiply() -> None:
        a @ b
        reference.wait()

    return matmul_rate(side, multiply)
