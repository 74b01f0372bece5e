"""Where is the change? Directions by method, layer and seed, and how near each comes to the latent's true direction.

For experiments with conditions; everything is located on validation questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from analyses.intervene import Choices
from analyses.located import Activations, Located
from analyses.measurements import Measurement, measurement
from analyses.steps import estimate, prompt_activations, typical_norm
from analyses.workers import carry_out, task
from interp.behavior.questions import Question
from interp.directions import (
    Direction,
    auroc,
    cosine,
    difference_of_differences,
    mean_difference,
    random_direction,
    tuned_minus_control,
)
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.pair import ModelPair
from interp.positions import LAST_PROMPT, Positions


@dataclass(frozen=True)
class Contrast:
    """Questions in a state (`on`), and ones that are not (`off`)."""

    on: tuple[Question, ...]
    off: tuple[Question, ...] = ()


def locate(
    pair: ModelPair,
    contrast: Contrast,
    truth: Contrast | None,
    reference: str,
    seeds: Sequence[int],
    randoms: int,
    reading: Positions = LAST_PROMPT,
) -> Located:
    """Every method at every layer, from residual streams at the contrast's questions: a question's mean over the tokens
    `reading` selects.

    The truth, where there is one, comes from the base model alone: questions that state the latent, minus questions
    that state another.
    """
    on, off = (_read(pair, questions, reading) for questions in (contrast.on, contrast.off))
    with pair.using("base") as lm:
        true = {} if truth is None else _means_apart(*_activations(lm, truth, reading))
        last = prompt_activations(lm, contrast.on, range(lm.n_layers), LAST_PROMPT)
    directions: dict[str, dict[int, list[Direction]]] = {}
    for point, base in on["base"].items():
        tuned = [on[f"tuned-{seed}"][point] for seed in seeds]
        control = [on[f"{reference}-{seed}"][point] for seed in seeds]
        found = {
            "tuned_minus_control": [
                tuned_minus_control(t, base, c, point) for t, c in zip(tuned, control, strict=True)
            ],
            "mean_difference": [mean_difference(t, base, point) for t in tuned],
            "random": [random_direction(pair.base.d_model, point, 1000 * point.layer + k) for k in range(randoms)],
        }
        if true:
            found["truth"] = [true[point]]
        if contrast.off:
            found["difference_of_differences"] = [
                difference_of_differences(
                    on[f"tuned-{seed}"][point], off[f"tuned-{seed}"][point], base, off["base"][point], point
                )
                for seed in seeds
            ]
        for method, ones in found.items():
            directions.setdefault(method, {})[point.layer] = ones
    return Located(directions, {point.layer: typical_norm(a) for point, a in last.items()}, on["base"])


def nearness(
    pair: ModelPair, located: Located, truth: Contrast, chosen_layer: int, choices: Choices
) -> list[Measurement]:
    """On test questions, for each method and layer: cosine with the truth there, and AUROC of the projection as a
    detector of the stated latent in the base model."""
    with pair.using("base") as lm:
        on, off = _activations(lm, truth, choices.reading)
    true = _means_apart(on, off)
    rows = []
    for method, by_layer in located.directions.items():
        for layer, ones in by_layer.items():
            where = {
                "direction": method,
                "layer": layer,
                "split": "test",
                "chosen": method == choices.method and layer == chosen_layer,
            }
            near = [cosine(one, true[one.point]) for one in ones]
            model = "base" if method in ("random", "truth") else "tuned"
            rows.append(measurement("cosine_to_truth", model, estimate(near, choices.seed), **where))
            detected = [auroc(one, on[one.point], off[one.point]) for one in ones]
            rows.append(measurement("auroc", "base", estimate(detected, choices.seed), **where))
    return rows


def _read(pair: ModelPair, questions: Sequence[Question], reading: Positions) -> dict[str, Activations]:
    """Of every model, activations at every layer; none without questions."""
    if not questions:
        return {name: {} for name in pair.names}
    layers = range(pair.base.n_layers)
    tasks = [task(name, prompt_activations, questions, layers, reading) for name in pair.names]
    return dict(zip(pair.names, carry_out(pair, tasks), strict=True))


def _activations(
    lm: LanguageModel, truth: Contrast, reading: Positions
) -> tuple[Mapping[HookPoint, Tensor], Mapping[HookPoint, Tensor]]:
    """At every layer, [questions d_model] where the latent is stated and where another is (of other numbers)."""
    on, off = (prompt_activations(lm, qs, range(lm.n_layers), reading) for qs in (truth.on, truth.off))
    return on, off


def _means_apart(on: Mapping[HookPoint, Tensor], off: Mapping[HookPoint, Tensor]) -> dict[HookPoint, Direction]:
    """The latent as the base model itself represents it: mean over `on` minus mean over `off`."""
    return {point: mean_difference(on[point], off[point], point, method="truth") for point in on}
