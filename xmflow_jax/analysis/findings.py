"""The sentences that a person wants from a run, each with its uncertainty: three findings, and what could have been
found."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xmflow_jax.analysis.critical import CriticalLayers, layer_ranges, ranges_text
from xmflow_jax.analysis.model_shape import Saving
from xmflow_jax.analysis.power import LEAST_CHANGED, Power
from xmflow_jax.analysis.pruning import Pruning, is_pruning
from xmflow_jax.analysis.question_matrix import ALL_TASKS
from xmflow_jax.analysis.recommendation import Recommendation
from xmflow_jax.analysis.stages import Stage, TaskStages
from xmflow_jax.run.row_words import KEEP_ONLY


@dataclass(frozen=True)
class Findings:
    """Plain sentences, one line each."""

    critical: str
    stages: str
    pruning: str
    power: str

    def lines(self) -> tuple[str, str, str, str]:
        """In the order in which they are told."""
        return self.critical, self.stages, self.pruning, self.power


def findings(recommendation: Recommendation) -> Findings:
    """What a run says in four sentences; those of all tasks together where it has several."""
    percent = f"{100 * recommendation.resampling.confidence:g} %"
    return Findings(
        critical=_critical_line(recommendation.critical, recommendation.tau, percent),
        stages=_stages_line(recommendation.stages, recommendation.resampling.confidence),
        pruning=_pruning_line(recommendation.pruning),
        power=_power_line(recommendation.power),
    )


def _critical_line(curves: Sequence[CriticalLayers], tau: float, percent: str) -> str:
    head = f"Critical layers (accuracy falls by more than {tau:g} points, {percent} interval above zero)"
    # The pruning's own rows are the third line's, and a fall where a pathway alone is kept makes no layer critical.
    curves = [one for one in curves if not is_pruning(one.curve) and one.kind != KEEP_ONLY]
    if not curves:
        return f"{head}: nothing was measured but the pruning."
    pooled = any(curve.task == ALL_TASKS for curve in curves)
    main = [curve for curve in curves if curve.task == ALL_TASKS] if pooled else curves
    found = sorted((curve for curve in main if curve.layers), key=lambda curve: -curve.delta_accuracy)
    elsewhere: dict[str, list[str]] = {}
    if pooled:
        known = {_name(curve) for curve in found}
        for curve in curves:
            if curve.task != ALL_TASKS and curve.layers and _name(curve) not in known:
                where = f"{curve.task} {ranges_text(layer_ranges(curve.layers))}"
                elsewhere.setdefault(_name(curve), []).append(where)
    named = {_name(curve) for curve in found} | elsewhere.keys()
    without = [name for name in dict.fromkeys(_name(curve) for curve in main) if name not in named]
    parts = [_critical_part(curve) for curve in found]
    parts += [f"{name} only in single tasks ({', '.join(where)})" for name, where in elsewhere.items()]
    if not parts:
        most = max(main, key=lambda curve: curve.delta_accuracy)
        if most.delta_accuracy <= 0:
            return f"{head}: nothing is critical; accuracy falls nowhere ({_number(most)})."
        return (
            f"{head}: nothing is critical; the largest fall is {_fall(most)} ({_name(most)}, layer {most.peak_layer})."
        )
    if without:
        parts.append(f"none of {', '.join(without)}")
    return f"{head}: {'; '.join(parts)}."


def _critical_part(curve: CriticalLayers) -> str:
    ranges = layer_ranges(curve.layers)
    peak = f"in layer {curve.peak_layer} " if len(curve.layers) > 1 else ""
    return f"{_name(curve)} {_layers(ranges)} ({peak}{_fall(curve)}, {_number(curve)})"


def _name(curve: CriticalLayers) -> str:
    return curve.curve.name


def _fall(curve: CriticalLayers) -> str:
    interval = "" if curve.low is None or curve.high is None else f", {curve.low:.1f} to {curve.high:.1f}"
    return f"{curve.delta_accuracy:.1f} points{interval}"


def _number(curve: CriticalLayers) -> str:
    return f"n = {curve.n}" + (f" on {curve.images} images" if curve.images < curve.n else "")


def _stages_line(every: Sequence[TaskStages], confidence: float) -> str:
    if not every:
        return "Stages: no question has rows."
    together = next((stages for stages in every if stages.task == ALL_TASKS), every[0])
    return f"Stages: {_stages_of(together, confidence)}"


def _stages_of(stages: TaskStages, confidence: float) -> str:
    parts = [_stage_part(stage) for stage in stages.stages]
    supported = [stage.name for stage in stages.stages if stage.supported]
    if not supported:
        parts.insert(0, "the data support none")
    elif len(supported) == 1:
        parts.append("one stage has no order")
    else:
        share = f"{100 * (stages.together or 0.0):.1f} % of resamples"
        inside = [order for order in stages.orders if order.support < confidence]
        verdict = "in this order" if not inside else "their order is not supported: it shows"
        parts.append(f"{verdict} in {share}")
    widths = {stage.window for stage in stages.stages if stage.supported and (stage.window or 1) > 1}
    wide = f" Each layer stands for the {widths.pop()} blocked around it." if len(widths) == 1 else ""
    return "; ".join(parts) + "." + wide


def _stage_part(stage: Stage) -> str:
    if not stage.supported:
        return f"{stage.name} is not supported ({stage.reason})"
    centre = f"centre {stage.centre:.1f}, {stage.centre_low:.1f} to {stage.centre_high:.1f}"
    return f"{stage.name} {_layers(stage.layers)} ({centre})"


def _pruning_line(pruning: Pruning) -> str:
    what = "cross-attention to the image" if pruning.cross_attention else "all attention to the image"
    cost = f"at a cost below {pruning.cost:g} points ({100 * pruning.confidence:g} % confidence"
    every = f", in each of {len(pruning.tasks)} tasks)" if len(pruning.tasks) > 1 else ")"
    if pruning.layers:
        single = pruning.layer is None
        saved = "" if pruning.saving is None else f"; {'each' if single else 'this'} saves {_saved(pruning.saving)}"
        if single:
            where = _layers(layer_ranges(pruning.layers))
            return f"Pruning: {what} can be skipped, one layer at a time, {where} {cost}{every}{saved}."
        if pruning.layer == min(cost.layer for task in pruning.tasks for cost in task.evidence):
            return f"Pruning: {what} can go altogether, from layer {pruning.layer} on, {cost}{every}{saved}."
        return f"Pruning: from layer {pruning.layer} on {what} can go {cost}{every}{saved}."
    line = f"Pruning: no layer is proven to do without {what} {cost}{every}: {pruning.reason}"
    if pruning.estimated_layer is not None:
        line += (
            f". The estimates alone, without confidence, stay below the cost from layer {pruning.estimated_layer} on"
        )
    elif pruning.estimated_layers:
        ranges = _layers(layer_ranges(pruning.estimated_layers))
        line += f". The estimates alone, without confidence, stay below the cost {ranges}"
    return f"{line}."


def _power_line(every: Sequence[Power]) -> str:
    if not every:
        return "Power: no edges were blocked, from which it would be told."
    one = every[0]  # all tasks together, where there are several
    asked = f"{_count(one.questions, 'question')} on {_count(one.images, 'image')}"
    effect = "not known" if one.design_effect is None else f"{one.design_effect:.1f}"
    terms = f"{100 * one.confidence:g} % confidence, {100 * one.power:g} % power"
    if not one.known:
        return (
            f"Power: of {asked} answers changed on {one.changed} alone; from fewer than {LEAST_CHANGED} images nobody "
            f"can tell how small a loss of accuracy they could show ({terms})."
        )
    needed = "" if one.needed is None else f"; {one.small_loss:g} points would need {one.needed} questions"
    if one.smallest_loss is None:
        return (
            f"Power: {asked} (design effect {effect}) are too few to show any loss of accuracy in a layer "
            f"({terms}){needed}."
        )
    return (
        f"Power: {asked} (design effect {effect}) could show a loss of accuracy of {one.smallest_loss:.1f} points in a "
        f"layer ({terms}){needed}."
    )


def _saved(saving: Saving) -> str:
    shares = (
        (saving.attention_operations.share, "of the attention operations"),
        (saving.mlp_operations.share, "of the MLP operations"),
        (saving.key_value_bytes.share, "of the key-value memory"),
    )
    parts = [f"{100 * share:.0f} % {what}" for share, what in shares]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _layers(ranges: Iterable[tuple[int, int]]) -> str:
    ranges = tuple(ranges)
    one = len(ranges) == 1 and ranges[0][0] == ranges[0][1]
    return f"in layer{'' if one else 's'} {ranges_text(ranges)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
