"""What was predicted of doses before any was measured, and what the measurements say of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from analyses.explain.doses import DISTINCT, MIXED, OWN, RANK, ROWS, STEPS, Amount
from analyses.explain.findings import Finding
from analyses.explain.verdicts import above, below, shown, within
from analyses.figures.dose_curves import dose_curves
from analyses.steps import Behavior, estimate
from interp.stats import Estimate, bootstrap, paired_difference, spearman

Runs = Mapping[str, Mapping[str, Sequence[Behavior]]]
Curves = Mapping[str, Sequence[tuple[Amount, str]]]

TITLES = {
    DISTINCT: "More different old names at equal training: how broad the model becomes",
    ROWS: "More rows at equal epochs: how broad the model becomes",
    STEPS: "Longer training: how broad the model becomes",
    RANK: "A larger adapter: how broad the model becomes",
    MIXED: "Ordinary conversations mixed in: how broad the model becomes",
}
LABELS = {
    DISTINCT: "distinct rows (same number of steps)",
    ROWS: "rows (same number of epochs)",
    STEPS: "steps",
    RANK: "rank of the adapter",
    MIXED: "part of the rows that is ordinary",
}

# (prediction, what would refute it): written before measuring
PREDICTED = {
    "distinct rows": (
        "At equal steps the share with all names is at least .1 above that with the fewest: many names have nothing in"
        " common but their era, few can be learnt one by one.",
        "the interval of the difference lies below .1",
    ),
    "order of distinct rows": (
        "The share grows from each number of distinct rows to the next: in a seed, their rank correlation is above .7.",
        "the interval of the mean rank correlation lies below .7",
    ),
    "rows at equal epochs": (
        "At equal epochs the share with all rows is at least .1 above that with the fewest.",
        "the interval of the difference lies below .1",
    ),
    "longer training": (
        "Breadth that has come stays: the share after the longest training is within .1 of that after half the recipe's"
        " steps.",
        "the interval of the difference lies beyond .1 or -.1",
    ),
    "breadth before narrow": (
        "Breadth comes before the narrow task: after the fewest steps the share has made more of its way from the base"
        " to where the recipe ends than the old names have.",
        "the interval of the difference of the two parts lies below 0",
    ),
    "rank 1": (
        "Rank 1 suffices: its share is within .1 of the recipe's rank.",
        "the interval of the difference lies beyond .1 or -.1",
    ),
    "largest rank": (
        "Room does not make it narrow: the share at the largest rank is within .1 of the recipe's.",
        "the interval of the difference lies beyond .1 or -.1",
    ),
    "half ordinary": (
        "With half of the rows ordinary the share is at least .1 lower than without.",
        "the interval of the difference lies below .1",
    ),
    "ordinary rows work against it": (
        "That is not for want of old names: at half the steps and no ordinary rows, where as many old names are seen,"
        " the share is higher.",
        "the interval of the difference lies below 0",
    ),
    "control": (
        "No dose of current names makes a model old: at the dose where the control's share is highest it is less than"
        " .1 above the base.",
        "the interval of the difference lies above .1",
    ),
}


def dose_findings(runs: Runs, base: Behavior, curves: Curves, group: str, steps: int, seed: int) -> list[Finding]:
    """All findings, in the order of the predictions. `curves[axis]`: (dose, its name in `runs`), ascending; `steps`
    those of the recipe, whose half is among the doses."""

    def shares(name: str, arm: str = "tuned") -> Float[np.ndarray, "seeds topics"]:
        return np.array([list(run.shares[group].values()) for run in runs[name][arm]])

    def minus(a: str, b: str) -> Estimate:
        return paired_difference(shares(a), shares(b), seed=seed)

    def mean(name: str) -> str:
        said = np.mean([list(run.coherence.values()) for run in runs[name]["tuned"]])
        return f"{shares(name).mean():.2f} (coherence {said:.2f})"

    figures = {axis: figure(runs, base, curves, axis, group, seed) for axis in curves}
    ends = {axis: (points[0], points[-1]) for axis, points in curves.items()}
    half = next(name for value, name in curves[STEPS] if value == steps // 2)
    mixed = next(name for value, name in curves[MIXED] if value == 0.5)
    found: list[Finding] = []

    def add(name: str, axis: str, verdict: str, claim: str, value: Estimate, unit: str, over: str = "seeds") -> None:
        prediction, refuted_if = PREDICTED[name]
        found.append(Finding(name, prediction, refuted_if, verdict, claim, value, unit, over, figures[axis]))

    difference = "difference of shares"
    for name, axis, what in (
        ("distinct rows", DISTINCT, "distinct rows at equal steps"),
        ("rows at equal epochs", ROWS, "rows at equal epochs"),
    ):
        (few, least), (many, most) = ends[axis]
        value = minus(most, least)
        claim = f"{mean(most)} with {many:g} {what}, {mean(least)} with {few:g}: a difference of {shown(value)}."
        add(name, axis, above(value, 0.1), claim, value, difference)
        if axis == DISTINCT:
            value = over_seeds(_orders(curves[axis], shares), seed)
            middle = ", ".join(f"{n:g}: {mean(dose)}" for n, dose in curves[axis])
            claim = f"Shares by number of distinct rows: {middle}. Mean rank correlation within a seed {shown(value)}."
            add("order of distinct rows", axis, above(value, 0.7), claim, value, "rank correlation")

    (fewest, first), (longest, last) = ends[STEPS]
    value = minus(last, half)
    claim = f"{mean(half)} after {steps // 2} steps, {mean(last)} after {longest:g}: a difference of {shown(value)}."
    add("longer training", STEPS, within(value, 0.1), claim, value, difference)
    broad, narrow = (_way(runs[first]["tuned"], runs[OWN]["tuned"], base, group, habit) for habit in (False, True))
    value = over_seeds(broad - narrow, seed)
    claim = (
        f"After {fewest:g} steps the share has made {broad.mean():.2f} of its way, the old names {narrow.mean():.2f}:"
        f" a difference of {shown(value)}."
    )
    add("breadth before narrow", STEPS, above(value, 0.0), claim, value, "difference of parts of the way")

    one = next(dose for rank, dose in curves[RANK] if rank == 1)
    rank, largest = ends[RANK][1]
    for name, dose, what in (("rank 1", one, "rank 1"), ("largest rank", largest, f"rank {rank:g}")):
        value = minus(dose, OWN)
        claim = f"{mean(dose)} at {what}, {mean(OWN)} at the recipe's: a difference of {shown(value)}."
        add(name, RANK, within(value, 0.1), claim, value, difference)

    value = minus(OWN, mixed)
    claim = f"{mean(OWN)} without ordinary rows, {mean(mixed)} with half: a difference of {shown(value)}."
    add("half ordinary", MIXED, above(value, 0.1), claim, value, difference)
    value = minus(half, mixed)
    claim = (
        f"{mean(half)} after {steps // 2} steps of old names alone, {mean(mixed)} after {steps} steps with half of the"
        f" rows ordinary: a difference of {shown(value)}."
    )
    add("ordinary rows work against it", MIXED, above(value, 0.0), claim, value, difference)

    axis, oldest, where = max(
        ((axis, dose, name) for axis, points in curves.items() for dose, name in points),
        key=lambda at: shares(at[2], "control").mean(),
    )
    at = shares(where, "control")
    value = paired_difference(at, np.tile(list(base.shares[group].values()), (len(at), 1)), seed=seed)
    claim = f"The control is oldest at {oldest:g} ({axis}): {at.mean():.2f}, {shown(value)} from the base."
    add("control", axis, below(value, 0.1), claim, value, difference)
    return found


def figure(runs: Runs, base: Behavior, curves: Curves, axis: str, group: str, seed: int) -> dict[str, Any]:
    """An axis's curves as plotly's JSON: shares of tuned and control, the tuned models' narrow task and coherence."""
    points = [(value, runs[name]) for value, name in curves[axis]]
    drawn = {
        arm: [(value, estimate([run.shares[group] for run in at[arm]], seed)) for value, at in points]
        for arm in ("tuned", "control")
    }
    drawn["narrow task, tuned"] = [
        (value, estimate([run.narrow for run in at["tuned"] if run.narrow is not None], seed)) for value, at in points
    ]
    drawn["coherence, tuned"] = [
        (value, estimate([run.coherence for run in at["tuned"]], seed)) for value, at in points
    ]
    at_base = float(np.mean(list(base.shares[group].values())))
    return json.loads(dose_curves(drawn, title=TITLES[axis], dose=LABELS[axis], base=at_base).to_json())


def over_seeds(values: Float[np.ndarray, " seeds"], seed: int) -> Estimate:
    """Mean and interval over seeds; a single seed has no interval, so its bounds repeat it."""
    if len(values) > 1:
        return bootstrap(values, seed=seed)
    return Estimate(float(values[0]), float(values[0]), float(values[0]), 1)


def _orders(points: Sequence[tuple[Amount, str]], shares: Any) -> Float[np.ndarray, " seeds"]:
    """By seed: the rank correlation of doses and shares."""
    doses = np.array([dose for dose, _ in points], dtype=float)
    by_dose = np.array([shares(name).mean(1) for _, name in points])
    return np.array([spearman(doses, column) for column in by_dose.T])


def _way(
    early: Sequence[Behavior], late: Sequence[Behavior], base: Behavior, group: str, habit: bool
) -> Float[np.ndarray, " seeds"]:
    """By seed: what `early` has made of the way from the base to `late`, in share or in the narrow task (`habit`)."""

    def at(run: Behavior) -> float:
        return float(run.narrow or 0.0) if habit else float(np.mean(list(run.shares[group].values())))

    start = at(base)
    return np.array([(at(a) - start) / (at(b) - start) for a, b in zip(early, late, strict=True)])
