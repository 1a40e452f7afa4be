"""The study's way in PyTorch: batch 1, one full eager pass for every layer and pathway, image encoder included."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.workload import Preset, RandomQuestion, spread, study_rows
from xmflow_jax.knockout.pathways import Pathway


def run_pytorch(
    preset: Preset, checkpoint: Path, questions: list[RandomQuestion], threads: int | None, token: int | None = None
) -> dict[str, Any]:
    """Time full passes under knockout on the first question, after two undisturbed ones.

    Args:
        token: whose probability is told; None: the base run's own.

    Returns:
        seconds of each timed pass, the probabilities of the token, the base run's token, and the indexes of the
        configurations that were run; from `preset.reference_knockouts` of them anew in float32 (`reference_...`), where
        the preset's type is a smaller one, the same.
    """
    import torch
    from transformers import LlavaForConditionalGeneration

    if threads is not None:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Float32 means float32; matrix products are so by default.
    torch.backends.cudnn.allow_tf32 = False
    model = LlavaForConditionalGeneration.from_pretrained(
        checkpoint, dtype=getattr(torch, preset.dtype), attn_implementation="eager", local_files_only=True
    )
    model = model.to(device).eval()
    layers = model.model.language_model.layers

    def synchronise() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def blocked_mask(question: RandomQuestion, source: str, target: str) -> Any:
        """The additive mask of the released code: the smallest number at what is blocked or lies ahead."""
        length = len(question.token_ids)
        allowed = np.tril(np.ones((length, length), bool))
        allowed &= ~(question.roles[target][:, None] & question.roles[source][None, :])
        smallest = torch.finfo(model.dtype).min
        mask = torch.zeros(1, 1, length, length, dtype=model.dtype, device=device)
        return mask.masked_fill_(~torch.tensor(allowed, device=device), smallest)

    def probabilities(question: RandomQuestion, mask: Any = None, blocked: tuple[int, ...] = ()) -> Any:
        def replace_mask(_module: Any, args: Any, kwargs: Any) -> Any:
            return args, {**kwargs, "attention_mask": mask}

        hooks = [layers[layer].self_attn.register_forward_pre_hook(replace_mask, with_kwargs=True) for layer in blocked]
        tokens = torch.tensor(question.token_ids[None].astype(np.int64), device=device)
        pixels = torch.tensor(question.pixels.transpose(0, 3, 1, 2), dtype=model.dtype, device=device)
        with torch.inference_mode():
            output = model(input_ids=tokens, pixel_values=pixels, use_cache=False, logits_to_keep=1)
            result = torch.softmax(output.logits[0, -1].float(), -1)
        for hook in hooks:
            hook.remove()
        return result

    rows = study_rows(preset)

    def run(chosen: list[int]) -> dict[str, Any]:
        pathways = {row.pathway for row in rows if isinstance(row.pathway, Pathway)}
        masks = {str(one): blocked_mask(questions[0], one.source, one.target) for one in pathways}
        for _ in range(2):
            base = probabilities(questions[0])
        read = int(base.argmax()) if token is None else token
        seconds, found, tokens = [], [], []
        for index in chosen:
            row = rows[index]
            blocked = row.knockout.switched[0][1]
            synchronise()
            start = time.perf_counter()
            under = probabilities(questions[0], masks[str(row.pathway)], blocked)
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

    found = run(spread(len(rows), preset.torch_knockouts)) | {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads",
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "matmul_rate": matmul_rate(lambda a, b: a @ b, preset, torch, device, synchronise),
    }
    if preset.dtype != "float32" and preset.reference_knockouts:
        model = model.float()
        again = [found["chosen"][index] for index in spread(len(found["chosen"]), preset.reference_knockouts)]
        found |= {f"reference_{name}": value for name, value in run(again).items()}
    return found


def matmul_rate(
    product: Callable[..., Any], preset: Preset, torch: Any, device: str, wait: Callable[[], None]
) -> float:
    """Operations per second of one large matmul."""
    side = 8192 if device == "cuda" else 2048
    dtype = getattr(torch, preset.dtype)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        wait()
        start = time.perf_counter()
        product(a, b)
        wait()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
