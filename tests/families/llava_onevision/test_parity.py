"""LLaVA-OneVision against transformers' PyTorch, eager, float32: grids as they are and resampled, and knockouts."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.families.full_pass import full_pass
from tests.families.llava_next.tile_prompts import SIZES, tile_prompt, torch_inputs
from tests.families.parity import check_every_layer, check_lively_knockouts, last_logits, load_pair
from tests.families.torch_reference import blocked_edges, run_blocked
from tests.families.variants import ONEVISION, VARIANTS
from tests.knockout.tiny_study import TinyPrompt
from xmflow_jax.data.batch import build_batch
from xmflow_jax.families.llava_onevision.family import FAMILY
from xmflow_jax.knockout.actions import Knockout
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, TO_END
from xmflow_jax.weights.load import LoadedModel

pytestmark = pytest.mark.usefixtures("quickly_compiled")

CASES = {
    "tiny": ONEVISION,
    "edges": VARIANTS["llava_onevision"]["edges"],
    # Larger tiles and fewer of them kept, so that resampling makes neighbours of many cells.
    "one tile": replace(
        ONEVISION, vision=replace(ONEVISION.vision, image_size=70), canvases=((70, 70), (140, 210)), most_tiles=1
    ),
}
each_case = pytest.mark.parametrize("case", CASES)


@lru_cache
def both(case: str) -> tuple[LoadedModel, Any]:
    """Ours and transformers', of one random checkpoint."""
    return load_pair(FAMILY, CASES[case], "LlavaOnevisionForConditionalGeneration")


def inputs_of(prompt: TinyPrompt, size: tuple[int, int], case: str) -> dict[str, Any]:
    import torch

    told = torch_inputs(prompt, size)
    told["pixel_values"] = told["pixel_values"].contiguous()
    told["batch_num_images"] = torch.tensor([1])
    told["vision_aspect_ratio"] = f"anyres_max_{CASES[case].most_tiles}"
    return told


def published_logits(case: str, prompt: TinyPrompt, size: tuple[int, int], knockout: Knockout) -> np.ndarray:
    _, model = both(case)
    return last_logits(run_blocked(model, blocked_edges(prompt, knockout), **inputs_of(prompt, size, case)))


@each_case
def test_every_layer_and_all_logits_of_images_of_every_shape(case: str) -> None:
    loaded, model = both(case)
    prompts = [tile_prompt(FAMILY, CASES[case], size, seed) for seed, size in enumerate(SIZES)]
    batch = build_batch(prompts)
    ours = jax.tree.map(np.asarray, full_pass(loaded.net, jnp.asarray(batch.tokens), batch.pixels))
    for row, (prompt, size) in enumerate(zip(prompts, SIZES, strict=True)):
        theirs = run_blocked(model, {}, **inputs_of(prompt, size, case), output_hidden_states=True)
        check_every_layer(ours, theirs, row)


def test_probabilities_under_knockout() -> None:
    """All pathways of the study and those of the views, in every layer; both engines; a batch of mixed sizes."""
    case = "tiny"
    loaded, _ = both(case)
    sizes = SIZES[3:6]
    prompts = [tile_prompt(FAMILY, CASES[case], size, seed) for seed, size in enumerate(sizes)]
    views = [Pathway(view, "Question") for view in ("Image Base", "Image Tiles", "Image Newline")]
    styled = [(pathway, CENTRED) for pathway in (*STUDY_PATHWAYS, *views)] + [(Pathway("Image", "All"), TO_END)]
    knockouts = [row.knockout for row in pathway_study(styled, loaded.anatomy, 1)]
    references = [partial(published_logits, case, one, size) for one, size in zip(prompts, sizes, strict=True)]
    check_lively_knockouts(loaded, prompts, knockouts, references)
