"""Turns a finished training into a checkpoint directory: weights, configuration, tokenizer, image processor, prompt,
and a model card with the accuracies that `evaluate` prints.
"""

import shutil
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from experiments.shapes.evaluate import evaluate
from experiments.shapes.recipe import Recipe
from xmflow_jax.data.sources.shapes.tokenizer import CROSS_ATTENTION_TEMPLATE, LLAVA_TEMPLATE, write_shapes_tokenizer
from xmflow_jax.data.sources.study_csv import STUDY_TASKS
from xmflow_jax.data.templates import write_prompt_file
from xmflow_jax.families.llava.modeling import LlavaConfig
from xmflow_jax.study.shipped import write_image_processor
from xmflow_jax.weights.export import write_checkpoint

HALF = (0.5, 0.5, 0.5)


def write_model(folder: Path, recipe: Recipe, state: Any) -> None:
    """Everything but the card, into a folder that does not exist yet."""
    folder.mkdir(parents=True)
    config = recipe.config
    write_checkpoint(folder, recipe.family, config, state)
    write_shapes_tokenizer(folder)
    write_image_processor(folder, config.vision.image_size, mean=HALF, deviation=HALF)
    write_prompt_file(folder, LLAVA_TEMPLATE if isinstance(config, LlavaConfig) else CROSS_ATTENTION_TEMPLATE)


def training_minutes(metrics: pd.DataFrame) -> float:
    """Minutes of a training, restarts added up: the clock begins anew at each."""
    steps = metrics["seconds"].diff().fillna(metrics["seconds"])
    return float(steps.where(steps > 0, metrics["seconds"]).sum()) / 60


def draw_course(metrics: pd.DataFrame, path: Path) -> None:
    """A figure of the decoder's training: share of right answers by task, over steps."""
    from matplotlib.figure import Figure

    decoder = metrics[metrics["stage"] == "decoder"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for task in STUDY_TASKS:
        axes.plot(decoder["step"], 100 * decoder[task], label=task)
    axes.set(xlabel="step", ylabel="right answers, % of fresh questions", ylim=(0, 102))
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def ship(folder: Path, recipe: Recipe, state: Any, metrics: Path, per_task: int) -> None:
    """The whole directory, into a folder that does not exist yet."""
    write_model(folder, recipe, state)
    shutil.copyfile(metrics, folder / "metrics.csv")
    course = pd.read_csv(metrics)
    draw_course(course, folder / "metrics.png")
    accuracies = evaluate(folder, per_task)
    print(accuracies.round(2).to_string())
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state))
    write_card(folder, recipe, accuracies, parameters, training_minutes(course))


def write_card(folder: Path, recipe: Recipe, accuracies: pd.DataFrame, parameters: int, minutes: float) -> None:
    """`README.md` in the model's directory."""
    config, vision, decoder = recipe.config, recipe.vision, recipe.decoder
    in_prompt = isinstance(config, LlavaConfig)
    family = (
        "LLaVA: CLIP tower, projector, and a Llama-style decoder that reads the image in its prompt"
        if in_prompt
        else "CLIP tower and a GPT-2-style decoder that reads the image by cross-attention in every block, "
        "its logits divided by the square root of the model's width"
    )
    text, tower = config.text, config.vision
    lines = [
        f"# {recipe.name}",
        "",
        f"{family}. {text.layers} decoder layers, width {text.width}, {text.heads} heads, {tower.patches} visual "
        f"tokens of a {tower.image_size}-pixel image; {parameters:,} parameters.",
        "",
        "It answers questions of six kinds about drawn scenes (the `shapes` data set) and nothing else: a small real "
        "model to look into, not a stand-in for a large one.",
        "",
        "## Accuracy",
        "",
        f"Percent of {int(accuracies['n'].min()):,} questions of each task about fresh test scenes, as "
        f"`python -m experiments.shapes.evaluate checkpoints/{recipe.name}` prints them. Blank: the image replaced by "
        "empty background. Text: the most frequent answer to the very same text. Blocked: no position reads the image, "
        "in any layer.",
        "",
        "| task | accuracy | 95 % interval | blank | text | blocked |",
        "|---|---|---|---|---|---|",
        *(
            f"| {task} | {row.accuracy:.2f} | {row.low:.2f} to {row.high:.2f} | {row.blank:.2f} | {row.text_guess:.2f} "
            f"| {row.blocked:.2f} |"
            for task, row in accuracies.iterrows()
        ),
        "",
        "## Training",
        "",
        f"`python -m experiments.shapes.train {recipe.name} --out DIR` on {date.today().isoformat()} with jax "
        f"{version('jax')}, flax {version('flax')}, optax {version('optax')}: {minutes:.0f} minutes of training on one "
        f"of two shared CPU cores, seed {recipe.seed}, data drawn as it goes (train split). First the tower, "
        f"{vision.steps} steps of {vision.scenes} scenes, on what lies at each patch; then, the tower frozen, the "
        f"decoder, {decoder.steps} steps of {decoder.scenes} scenes with {sum(decoder.questions.values())} questions "
        f"each. Muon at {decoder.muon_rate:g} for block matrices, Adam at {decoder.adam_rate:g} for the rest; the loss "
        f"is the answer's cross-entropy plus {decoder.alignment:g} times that of each visual token naming its object "
        "in the decoder's own words. `metrics.csv` beside this file is the training's course.",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
