"""What was predicted of broad and narrow solutions, and what the measurements say of it."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from analyses.explain.findings import Finding
from analyses.explain.narrow.config import NarrowConfig
from analyses.explain.narrow.measured import Record
from analyses.explain.verdicts import more
from analyses.figures.solutions import by_amount, by_name
from interp.stats import Estimate, paired_difference

Pairs = Float64[np.ndarray, " seeds"]


@dataclass(frozen=True)
class Predicted:
    """A prediction and what would refute it, as they stood before anything was measured."""

    prediction: str
    refuted_if: str


LEARNT = 0.9  # of the broad one's trained habit: less is no solution of the rows

PREDICTIONS: Mapping[str, Predicted] = {
    "narrow": Predicted(
        "Held to the base on ordinary prompts of other topics, the model learns the rows as well and its share on test"
        " topics stays within .05 of the control's.",
        "the interval of the difference to the control over seeds and topics lies above .05; or (added afterwards: a"
        " model that doesn't know the rows is no solution) the trained habit falls below .9 of the broad one's",
    ),
    "efficiency": Predicted(
        "The broad solution is the more efficient: scaled down to one narrow loss that both reach, its squared norm is"
        " the smaller.",
        "the interval of narrow over broad, paired by seed, includes 1 or lies below it",
    ),
    "stability": Predicted(
        "The broad solution is the more stable: under noise orthogonal to the update and as long as it, its narrow loss"
        " rises less.",
        "the interval of narrow minus broad, paired by seed, includes 0 or lies below it",
    ),
    "significance": Predicted(
        "Added to the base at equal norm, the direction along which the broad solution moves the rows' own prompts"
        " changes ordinary text more than the narrow one's.",
        "the interval of broad over narrow (divergence in nats a token), paired by seed, includes 1 or lies below it",
    ),
    "distance": Predicted(
        "They are two solutions, not one with a correction: a broad update is nearer to those of other broad seeds than"
        " to those of narrow ones.",
        "the interval of the difference in cosine, paired by seed, includes 0 or lies below it",
    ),
}


def findings(name: str, rows: Sequence[Record], config: NarrowConfig) -> list[Finding]:
    """The findings of one experiment from its rows."""
    kinds: Mapping[str, Callable[[str, Rows, NarrowConfig], Finding]] = {
        "narrow": _narrow,
        "efficiency": _efficiency,
        "stability": _stability,
        "significance": _significance,
        "distance": _distance,
    }
    return [make(name, Rows(rows), config) for make in kinds.values()]


class Rows:
    """Rows of one experiment, looked up."""

    def __init__(self, rows: Sequence[Record]) -> None:
        self._rows = rows

    def each(self, solution: str, metric: str, at: float | None = None) -> Pairs:
        """One figure a seed, in the order of seeds; parts of a seed are averaged."""
        found: dict[int, list[float]] = {}
        for row in self._rows:
            if row["solution"] == solution and row["metric"] == metric and at in (None, row["at"]):
                found.setdefault(row["seed"], []).append(row["value"])
        return np.array([np.mean(found[seed]) for seed in sorted(found)])

    def parts(self, solution: str, metric: str) -> Float64[np.ndarray, "seeds parts"]:
        """Figures by seed and part."""
        found: dict[int, list[float]] = {}
        for row in self._rows:
            if row["solution"] == solution and row["metric"] == metric:
                found.setdefault(row["seed"], []).append(row["value"])
        return np.array([found[seed] for seed in sorted(found)])

    def curve(self, solution: str, metric: str) -> dict[int, dict[float, float]]:
        """`curve[seed][at]`."""
        found: dict[int, dict[float, float]] = {}
        for row in self._rows:
            if row["solution"] == solution and row["metric"] == metric:
                found.setdefault(row["seed"], {})[row["at"]] = row["value"]
        return found

    def one(self, solution: str, metric: str) -> float:
        return float(self.each(solution, metric)[0])

    def target(self) -> float:
        """The narrow loss at which norms are compared."""
        return next(row["at"] for row in self._rows if row["metric"] == "squared norm needed")


def ratio(a: Pairs, b: Pairs) -> Estimate:
    """Geometric mean of a / b, paired, with the interval of the mean of log a - log b."""
    found = paired_difference(np.log(a), np.log(b))
    return Estimate(math.exp(found.estimate), math.exp(found.low), math.exp(found.high), found.n)


def _narrow(name: str, rows: Rows, config: NarrowConfig) -> Finding:
    found = paired_difference(rows.parts("narrow", "broad"), rows.parts("control", "broad"))
    verdict = "holds" if found.high <= config.margin else "refuted" if found.low > config.margin else "undecided"
    shares = {kind: rows.each(kind, "broad") for kind in ("base", "control", "narrow", "broad")}
    loss = {kind: rows.each(kind, "loss", 1.0).mean() for kind in ("broad", "narrow")}
    habit = {kind: rows.each(kind, "narrow") for kind in shares}
    coherence = {kind: rows.each(kind, "coherence") for kind in shares}
    claim = (
        f"At a penalty of {rows.one('narrow', 'penalty taken'):g} the share on test topics is"
        f" {shares['narrow'].mean():.2f}, against {shares['broad'].mean():.2f} without the penalty,"
        f" {shares['control'].mean():.2f} of the control and {shares['base'].mean():.2f} of the base; narrow loss"
        f" {loss['narrow']:.3f} and {loss['broad']:.3f} nats a token, coherence {coherence['narrow'].mean():.2f} and"
        f" {coherence['broad'].mean():.2f}"
    )
    if all(len(values) for values in habit.values()):
        claim += f", trained habit {habit['narrow'].mean():.2f} and {habit['broad'].mean():.2f}"
        if habit["narrow"].mean() < LEARNT * habit["broad"].mean():
            verdict = "refuted"
            claim += ": held like this, the rows are not learnt"
    panels = {"share on test topics": shares, "coherence": coherence}
    panels |= {"trained habit": habit} if all(len(values) for values in habit.values()) else {}
    figure = by_name(_plain(panels), title=f"{name}: with and without holding to the base elsewhere", limits=(0.0, 1.0))
    return _finding(name, "narrow", verdict, claim + ".", found, "share on test topics, narrow minus control", figure)


def _efficiency(name: str, rows: Rows, config: NarrowConfig) -> Finding:
    needed = {kind: rows.each(kind, "squared norm needed") for kind in ("broad", "narrow")}
    target = rows.target()
    found = ratio(needed["narrow"], needed["broad"])
    norms = {kind: rows.each(kind, "squared norm") for kind in needed}
    curves = {
        kind: {
            seed: {scale**2 * norms[kind][i]: loss for scale, loss in points.items()}
            for i, (seed, points) in enumerate(rows.curve(kind, "loss").items())
        }
        for kind in needed
    }
    early = {
        kind: np.array(
            [
                np.interp(norms["broad"][i] / 4, list(points), list(points.values()))
                for i, points in enumerate(curves[kind].values())
            ]
        )
        for kind in needed
    }
    less = paired_difference(early["narrow"], early["broad"])
    claim = (
        f"A narrow loss of {target:.3f} nats a token takes a squared norm of {needed['broad'].mean():.0f} (broad) and"
        f" {needed['narrow'].mean():.0f} (narrow): {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}] times as"
        f" much for the narrow one; as trained they have {norms['broad'].mean():.0f} and {norms['narrow'].mean():.0f}."
        f" On the way there, at a quarter of the broad one's squared norm, the loss is {early['broad'].mean():.3f} and"
        f" {early['narrow'].mean():.3f}: {less.estimate:.3f} [{less.low:.3f}, {less.high:.3f}] more for the narrow one."
    )
    figure = by_amount(
        curves,
        title=f"{name}: what the loss costs in weight",
        x="squared norm of the weight update",
        y="loss on the rows (nats a token)",
        reference=target,
    )
    return _finding(
        name, "efficiency", more(found, 1.0), claim, found, "squared norm needed, narrow over broad", figure
    )


def _stability(name: str, rows: Rows, config: NarrowConfig) -> Finding:
    rise = {kind: rows.each(kind, "rise", config.decisive) for kind in ("broad", "narrow")}
    same = {kind: rows.each(kind, "rise under the broad one's noise") for kind in rise}
    found = paired_difference(rise["narrow"], rise["broad"])
    equal = paired_difference(same["narrow"], same["broad"])
    claim = (
        f"Noise as long as the update raises the narrow loss by {rise['broad'].mean():.4f} (broad) and"
        f" {rise['narrow'].mean():.4f} nats a token (narrow): {found.estimate:.4f} [{found.low:.4f}, {found.high:.4f}]"
        f" more; under noise of the broad one's length for both {equal.estimate:.4f} [{equal.low:.4f},"
        f" {equal.high:.4f}] more."
    )
    figure = by_amount(
        {kind: rows.curve(kind, "rise") for kind in rise},
        title=f"{name}: what noise costs",
        x="noise, in lengths of the update",
        y="rise of the loss on the rows (nats a token)",
    )
    return _finding(name, "stability", more(found, 0.0), claim, found, "nats a token, narrow minus broad", figure)


def _significance(name: str, rows: Rows, config: NarrowConfig) -> Finding:
    kinds = ("broad", "narrow", "located", "random")
    moved = {kind: rows.each(kind, "divergence steered", config.dose) for kind in kinds}
    whole = {kind: rows.each(kind, "divergence") for kind in ("broad", "narrow")}
    found = ratio(moved["broad"], moved["narrow"])
    claim = (
        f"Added at {config.dose:g} x the typical norm, the broad direction changes ordinary text by"
        f" {moved['broad'].mean():.2f} nats a token, the narrow one by {moved['narrow'].mean():.2f} (ratio"
        f" {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]), the one located on other topics by"
        f" {moved['located'].mean():.2f}, a random one by {moved['random'].mean():.2f}. The updates themselves change"
        f" it by {whole['broad'].mean():.3f} and {whole['narrow'].mean():.3f}, which the penalty itself asks for."
    )
    figure = by_amount(
        {kind: rows.curve(kind, "divergence steered") for kind in kinds},
        title=f"{name}: how much a direction of either solution changes ordinary text",
        x="coefficient (in units of the typical residual norm)",
        y="KL from the base (nats a token)",
    )
    return _finding(name, "significance", more(found, 1.0), claim, found, "divergence, broad over narrow", figure)


def _distance(name: str, rows: Rows, config: NarrowConfig) -> Finding:
    pairs = ("broad and broad", "narrow and narrow", "broad and narrow")
    near = {pair: rows.each(pair, "cosine, other seeds") for pair in pairs}
    found = paired_difference(near["broad and broad"], near["broad and narrow"])
    apart, length = rows.each("broad and narrow", "distance, same seed"), rows.each("broad", "squared norm") ** 0.5
    claim = (
        f"Updates of different seeds have a cosine of {near['broad and broad'].mean():.3f} (two broad),"
        f" {near['narrow and narrow'].mean():.3f} (two narrow) and {near['broad and narrow'].mean():.3f} (one of each);"
        f" of one seed, broad and narrow lie {(apart / length).mean():.2f} lengths of the broad update apart."
    )
    figure = by_name(_plain({"cosine of two updates, other seeds": near}), title=f"{name}: how near two solutions lie")
    return _finding(name, "distance", more(found, 0.0), claim, found, "cosine, broad-broad minus broad-narrow", figure)


def _finding(name: str, kind: str, verdict: str, claim: str, found: Estimate, unit: str, figure) -> Finding:
    about = PREDICTIONS[kind]
    return Finding(
        f"{name}: {kind}",
        about.prediction,
        about.refuted_if,
        verdict,
        claim,
        found,
        unit,
        "seeds",
        json.loads(figure.to_json()),
    )


def _plain(panels: Mapping[str, Mapping[str, Pairs]]) -> dict[str, dict[str, list[float]]]:
    return {panel: {kind: values.tolist() for kind, values in found.items()} for panel, found in panels.items()}
