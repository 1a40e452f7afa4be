"""LLaVA-OneVision against transformers' PyTorch, eager, float32: grids as they are and resampled, and knockouts."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.families.full_pass import full_pass
from tests.families.llava_next.tile_prompts import SIZES, blocked_edges, probabilities, tile_prompt, torch_inputs
from tests.families.torch_reference import run_blocked, torch_model
from tests.families.variants import ONEVISION, VARIANTS
from tests.knockout.tiny_study import TinyPrompt, arrays, run_plain
from xmflow_jax.data.batch import build_batch
from xmflow_jax.families.checkpoint import load_model
from xmflow_jax.families.llava_onevision.family import FAMILY
from xmflow_jax.knockout.fast.engine import sweep_fast
from xmflow_jax.knockout.measure import measure
from xmflow_jax.knockout.pathways import STUDY_PATHWAYS, Pathway
from xmflow_jax.knockout.study import build_study
from xmflow_jax.knockout.study_rows import pathway_study
from xmflow_jax.knockout.windows import CENTRED, TO_END
from xmflow_jax.weights.load import LoadedModel
from xmflow_jax.weights.random_checkpoint import write_random

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LAYER, LOGITS, PROBABILITY = 1e-5, 1e-4, 1e-5
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
    with TemporaryDirectory() as folder:
        write_random(Path(folder), FAMILY, CASES[case], seed=0)
        loaded = load_model(Path(folder), "float32")
        assert loaded.config == CASES[case]
        return loaded, torch_model(Path(folder), "LlavaOnevisionForConditionalGeneration")


def inputs_of(prompt: TinyPrompt, size: tuple[int, int], case: str) -> dict[str, Any]:
    import torch

    told = torch_inputs(prompt, size)
    told["pixel_values"] = told["pixel_values"].contiguous()
    told["batch_num_images"] = torch.tensor([1])
    told["vision_aspect_ratio"] = f"anyres_max_{CASES[case].most_tiles}"
    return told


@each_case
def test_every_layer_and_all_logits_of_images_of_every_shape(case: str) -> None:
    loaded, model = both(case)
    prompts = [tile_prompt(FAMILY, CASES[case], size, seed) for seed, size in enumerate(SIZES)]
    batch = build_batch(prompts)
    ours = jax.tree.map(np.asarray, full_pass(loaded.net, jnp.asarray(batch.tokens), batch.pixels))
    for row, (prompt, size) in enumerate(zip(prompts, SIZES, strict=True)):
        theirs = run_blocked(model, {}, **inputs_of(prompt, size, case), output_hidden_states=True)
        length = len(prompt.token_ids)
        found = [*(state[row, :length] for state in ours.inputs), ours.normed[row, :length]]
        for own, other in zip(found, theirs.hidden_states, strict=True):
            assert np.abs(own - other[0].numpy()).max() <= LAYER * max(1.0, float(other.abs().max())), size
        assert np.abs(ours.logits[row, :length] - theirs.logits[0].numpy()).max() <= LOGITS, size


def test_probabilities_under_knockout() -> None:
    """All pathways of the study and those of the views, in every layer; both engines; a batch of mixed sizes."""
    case = "tiny"
    loaded, model = both(case)
    sizes = SIZES[3:6]
    prompts = [tile_prompt(FAMILY, CASES[case], size, seed) for seed, size in enumerate(sizes)]
    views = [Pathway(view, "Question") for view in ("Image Base", "Image Tiles", "Image Newline")]
    styled = [(pathway, CENTRED) for pathway in (*STUDY_PATHWAYS, *views)] + [(Pathway("Image", "All"), TO_END)]
    knockouts = [row.knockout for row in pathway_study(styled, loaded.anatomy, 1)]
    study = build_study(knockouts, loaded.anatomy)
    batch, positions = arrays(prompts, study)
    fast = sweep_fast(loaded.net, batch, positions, study)
    plain = run_plain(loaded.net, batch, positions, study.switches, count=len(knockouts)).swapaxes(0, 1)
    effects = []
    for logits in (fast.knockout, plain):
        measured = measure(fast.base, logits)
        for row, (prompt, size) in enumerate(zip(prompts, sizes, strict=True)):
            inputs = inputs_of(prompt, size, case)
            base = probabilities(run_blocked(model, {}, **inputs))
            token = int(measured.base_token[row])
            assert token == base.argmax()
            for column, knockout in enumerate(knockouts):
                theirs = probabilities(run_blocked(model, blocked_edges(knockout, prompt), **inputs))
                assert abs(float(measured.knockout_prob[row, column]) - theirs[token]) <= PROBABILITY, knockout
                assert int(measured.knockout_token[row, column]) == theirs.argmax(), knockout
                effects.append(abs(theirs[token] - base[token]))
    assert np.mean(np.array(effects) > 1e-3) > 0.5
