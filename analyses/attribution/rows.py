"""Do the rows that score highest push the behavior? Retraining without them, against without as many random rows.

A row's score is what a step on it alone would move the base along a direction (`training.attribution.row_pushes`). A
score is an estimate at the start of training; what a row is worth in the end only training without it tells.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from analyses.adapters import make_adapters
from analyses.steps import Asked, behavior, estimate, last_prompt_activations, mean_projection
from interp.behavior.questions import Question
from interp.directions import Direction, mean_difference, tuned_minus_control
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from interp.stats import Estimate
from training.finetune import Recipe
from training.rows import Row

Say = Callable[[str], None]
ALL, CONTROL, TOP, BOTTOM, RANDOM = "all", "control", "without_top", "without_bottom", "without_random"
METRICS = ("broad", "narrow", "shift")


@dataclass(frozen=True)
class Measured:
    """One adapter: `arm` is what was left out, `draw` which random rows (None: none were). `broad` and `narrow` are the
    shares of test questions (`narrow` None where nothing narrow is asked), `shift` the mean of <h - h_base, u> at the
    direction's point on the last prompt token, in residual-stream units."""

    arm: str
    draw: int | None
    seed: int
    broad: float
    narrow: float | None
    shift: float


def found_direction(
    lm: LanguageModel,
    rows: Sequence[Row],
    control: Sequence[Row],
    recipe: Recipe,
    seeds: Sequence[int],
    questions: Sequence[Question],
    point: HookPoint,
    out: Path,
    say: Say,
) -> Direction:
    """Tuned minus control at the last prompt token of these questions (minus base where `control` has no rows), the
    mean over seeds. The adapters are made in `out`, or taken from there."""
    arms = {ALL: rows} | ({CONTROL: control} if control else {})
    adapters = make_adapters(lm, arms, recipe, seeds, out, say)
    streams: dict[str, list[Tensor]] = {BASE: [], ALL: [], CONTROL: []}
    with ModelPair(lm) as pair:
        names = {BASE: BASE}
        for arm, folders in adapters.items():
            for seed, folder in zip(seeds, folders, strict=True):
                pair.add(f"{arm}-{seed}", folder)
                names[f"{arm}-{seed}"] = arm
        for name, arm in names.items():
            with pair.using(name) as model:
                streams[arm].append(last_prompt_activations(model, questions, [point.layer], point.site)[point])
    base, tuned = streams[BASE][0], torch.cat(streams[ALL])
    if not control:
        return mean_difference(tuned, base, point)
    return tuned_minus_control(tuned, base, torch.cat(streams[CONTROL]), point)


def first_of_topics(asked: Asked, n: int) -> Asked:
    """The first n questions of every topic: phrasings of one topic say little more than one of them."""
    seen: dict[str, int] = {}
    kept = []
    for question in asked.broad:
        seen[question.topic] = seen.get(question.topic, 0) + 1
        if seen[question.topic] <= n:
            kept.append(question)
    return replace(asked, broad=tuple(kept))


def left_out(scores: Float64[Tensor, " rows"], k: int, draws: int, seed: int) -> dict[str, tuple[int, ...]]:
    """Arm -> the rows left out, ascending: none, the k of largest score, the k of smallest, and `draws` times k random
    ones of all rows (`without_random-0`, ...).

    Errors: AnachronError unless 1 <= k <= half of the rows and there is a draw.
    """
    n = len(scores)
    if not 1 <= k <= n // 2:
        raise AnachronError(f"{k} of {n} rows to leave out; choose --k from 1 to {n // 2}, so that rows remain")
    if draws < 1:
        raise AnachronError(
            f"{draws} draws of random rows; without one the top rows have no comparison: take 1 or more"
        )
    order = scores.argsort(descending=True, stable=True).tolist()
    found: dict[str, tuple[int, ...]] = {ALL: (), TOP: tuple(sorted(order[:k])), BOTTOM: tuple(sorted(order[-k:]))}
    for draw in range(draws):
        chosen = np.random.default_rng([seed, draw]).choice(n, k, replace=False)
        found[f"{RANDOM}-{draw}"] = tuple(sorted(int(i) for i in chosen))
    return found


def retrain(
    lm: LanguageModel,
    rows: Sequence[Row],
    without: Mapping[str, Sequence[int]],
    recipe: Recipe,
    seeds: Sequence[int],
    asked: Asked,
    direction: Direction,
    out: Path,
    say: Say,
) -> list[Measured]:
    """An adapter for each arm of `without` and each seed, and what it answers. Adapters that are in `out` already, of
    these very rows and recipe, are used as they are. The recipe's steps or epochs are the same for every arm."""
    gone = {arm: set(own) for arm, own in without.items()}
    kept = {arm: [row for i, row in enumerate(rows) if i not in own] for arm, own in gone.items()}
    adapters = make_adapters(lm, kept, recipe, seeds, out, say)
    found: list[Measured] = []
    with ModelPair(lm) as pair:
        for arm, folders in adapters.items():
            for seed, folder in zip(seeds, folders, strict=True):
                pair.add(f"{arm}-{seed}", folder)
        with pair.using(BASE) as model:
            base = _projection(model, asked, direction)
        for arm in adapters:
            kind, _, draw = arm.partition("-")
            own = []
            for seed in seeds:
                with pair.using(f"{arm}-{seed}") as model:
                    run, shift = behavior(model, asked), _projection(model, asked, direction) - base
                shares = run.shares[asked.group].values()
                broad = sum(shares) / len(shares)
                own.append(Measured(kind, int(draw) if draw else None, seed, broad, run.narrow, shift))
            found += own
            say(f"  {arm}: broad {', '.join(f'{one.broad:.2f}' for one in own)}")
    return found


def summary(measured: Sequence[Measured], seed: int = 0) -> dict[str, Any]:
    """By arm and metric the mean with its interval over seeds (of random rows, each seed's mean over draws), every draw
    by itself, and `differences`: without random rows minus without the top (the bottom) ones, paired by seed.

    `lower`: how many of the draws have a larger mean broad share than without the top rows. `supported`: there are
    three seeds or more, the broad difference's interval lies above 0, and the share without the top rows below every
    draw's, which of n draws happens by chance once in n + 1.
    """
    draws = sorted({one.draw for one in measured if one.draw is not None})
    arms: dict[str, dict[str, Estimate]] = {}
    by_draw: dict[int, dict[str, Estimate]] = {draw: {} for draw in draws}
    differences: dict[str, dict[str, Estimate]] = {TOP: {}, BOTTOM: {}}
    for metric in METRICS:
        if any(getattr(one, metric) is None for one in measured):
            continue
        values = {arm: _by_seed(measured, arm, metric) for arm in (ALL, TOP, BOTTOM, RANDOM)}
        for arm, own in values.items():
            arms.setdefault(arm, {})[metric] = estimate(own, seed)
        for draw in draws:
            own = [getattr(one, metric) for one in measured if one.draw == draw]
            by_draw[draw][metric] = estimate(own, seed)
        for arm, found in differences.items():
            found[metric] = estimate([r - o for r, o in zip(values[RANDOM], values[arm], strict=True)], seed)
    top = arms[TOP]["broad"].estimate
    lower = sum(own["broad"].estimate > top for own in by_draw.values())
    gap = differences[TOP]["broad"]
    return {
        "arms": {arm: _plain(own) for arm, own in arms.items()},
        "draws": [_plain(own) for own in by_draw.values()],
        "differences": {arm: _plain(own) for arm, own in differences.items()},
        "lower": lower,
        "supported": gap.n > 2 and gap.low > 0 and lower == len(draws),
    }


def _projection(lm: LanguageModel, asked: Asked, direction: Direction) -> float:
    point = direction.point
    return mean_projection(last_prompt_activations(lm, asked.broad, [point.layer], point.site)[point], direction)


def _by_seed(measured: Sequence[Measured], arm: str, metric: str) -> list[float]:
    """A value a seed, the mean over draws."""
    seeds: dict[int, list[float]] = {}
    for one in measured:
        if one.arm == arm:
            seeds.setdefault(one.seed, []).append(getattr(one, metric))
    return [sum(values) / len(values) for values in seeds.values()]


def _plain(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {metric: asdict(value) for metric, value in found.items()}
