"""How well a judge agrees with known labels: accuracy, kappa, AUROC, rank correlation, each with its interval.

An unparseable verdict counts as wrong: it is a class of its own that no truth has. Measures of scores leave it out, as
they do a word in place of a score, since neither has a place on the scale; `n_scored` says how many are left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import AnachronError
from interp.stats import Estimate, ranks, spearman

UNPARSEABLE = "(unparseable)"


@dataclass(frozen=True)
class Agreement:
    """Verdicts against truth. `confusion[truth][verdict]` counts; `measures` by name, without those that are undefined
    (a kappa where there is one class alone). `n_scored` is 0 for a judge without scores."""

    n: int
    unparseable: int
    confusion: Mapping[str, Mapping[str, int]]
    measures: Mapping[str, Estimate]
    n_scored: int = 0

    @property
    def as_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def agreement(
    truth: Sequence[str],
    verdicts: Sequence[str | None],
    *,
    scores: Sequence[float | int | None] | None = None,
    positive: str | None = None,
    numbers: Sequence[float | int] | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Agreement:
    """Agreement of verdicts with the true labels; None is an unparseable verdict.

    accuracy; balanced_accuracy: mean over true classes of the share found; kappa: (p_o - p_e) / (1 - p_e) with p_e from
    both margins (Cohen 1960). With `scores` (None: no number given) auroc: P(a score of `positive` > another's),
    ties half, and with `numbers`, the truth on a scale, spearman. Intervals: 95 % percentile bootstrap over examples,
    or over `groups` of examples (one question's answers), which are then drawn whole.
    """
    _check(truth, verdicts, scores, numbers, groups, positive)
    classes = sorted({*truth, *(v for v in verdicts if v is not None)})
    index = {name: i for i, name in enumerate([*classes, UNPARSEABLE])}
    true = np.array([index[t] for t in truth])
    said = np.array([index[UNPARSEABLE if v is None else v] for v in verdicts])
    size = len(index)
    clusters = _clusters(len(truth), groups)
    everything = np.arange(len(truth))

    def table(rows: np.ndarray) -> np.ndarray:
        return np.bincount(true[rows] * size + said[rows], minlength=size * size).reshape(size, size)

    statistics: dict[str, Callable[[np.ndarray], float]] = {
        "accuracy": lambda rows: accuracy(table(rows)),
        "balanced_accuracy": lambda rows: balanced_accuracy(table(rows)),
        "kappa": lambda rows: kappa(table(rows)),
    }
    n_scored = 0
    if scores is not None:
        value = np.array([np.nan if s is None else s for s in scores], dtype=np.float64)
        scored = ~np.isnan(value)
        n_scored = int(scored.sum())
        if positive is not None:
            is_positive = true == index[positive]
            statistics["auroc"] = lambda rows: auroc(value[rows[scored[rows]]], is_positive[rows[scored[rows]]])
        if numbers is not None:
            scale = np.array(numbers, dtype=np.float64)
            statistics["spearman"] = lambda rows: spearman(value[rows[scored[rows]]], scale[rows[scored[rows]]])
    measures = {}
    for name, statistic in statistics.items():
        estimate = statistic(everything)
        if not np.isnan(estimate):
            measures[name] = _estimate(statistic, estimate, clusters, seed)
    counts = table(everything)
    confusion = {
        t: {v: int(counts[index[t], index[v]]) for v in index if counts[:, index[v]].any()}
        for t in classes
        if counts[index[t]].any()
    }
    return Agreement(len(truth), sum(v is None for v in verdicts), confusion, measures, n_scored)


def accuracy(counts: Int[np.ndarray, "truth verdict"]) -> float:
    """Share of the examples on the diagonal."""
    return float(np.trace(counts) / counts.sum())


def balanced_accuracy(counts: Int[np.ndarray, "truth verdict"]) -> float:
    """Mean over the classes that occur of the share of each that is found."""
    total = counts.sum(1)
    return float((np.diag(counts)[total > 0] / total[total > 0]).mean())


def kappa(counts: Int[np.ndarray, "truth verdict"]) -> float:
    """Cohen's kappa; NaN where chance alone would agree everywhere."""
    p = counts / counts.sum()
    chance = float(p.sum(1) @ p.sum(0))
    return float("nan") if chance >= 1 else (float(np.trace(p)) - chance) / (1 - chance)


def auroc(scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """P(score of a positive > score of a negative) + half P(equal); NaN where one of the two is missing."""
    n = int(positive.sum())
    others = len(scores) - n
    if n == 0 or others == 0:
        return float("nan")
    return float((ranks(scores)[positive].sum() - n * (n + 1) / 2) / (n * others))


def _estimate(
    statistic: Callable[[np.ndarray], float], estimate: float, clusters: Sequence[np.ndarray], seed: int
) -> Estimate:
    """The statistic with its percentile interval over 2000 draws; draws in which it is undefined say nothing."""
    rng = np.random.default_rng(seed)
    n = len(clusters)
    draws = [statistic(np.concatenate([clusters[k] for k in rng.integers(n, size=n)])) for _ in range(2000)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Estimate(estimate, float(min(low, estimate)), float(max(high, estimate)), n)


def _clusters(n: int, groups: Sequence[str] | None) -> list[np.ndarray]:
    """The numbers of the examples that are drawn together."""
    if groups is None:
        return list(np.arange(n)[:, None])
    return [np.array([i for i, g in enumerate(groups) if g == name]) for name in dict.fromkeys(groups)]


def _check(
    truth: Sequence[str],
    verdicts: Sequence[str | None],
    scores: Sequence[float | int | None] | None,
    numbers: Sequence[float | int] | None,
    groups: Sequence[str] | None,
    positive: str | None,
) -> None:
    lengths = [len(values) for values in (truth, verdicts, scores, numbers, groups) if values is not None]
    if len(set(lengths)) > 1 or lengths[0] < 2:
        raise AnachronError(
            f"labels, verdicts and what goes with them have lengths {lengths}; give equal ones, 2 or more"
        )
    if groups is not None and len(set(groups)) < 2:
        raise AnachronError("all examples are of one group; an interval over groups needs two")
    if UNPARSEABLE in truth:
        raise AnachronError(f"{UNPARSEABLE!r} among the true labels; it stands for verdicts that can't be read")
    if positive is not None and positive not in truth:
        raise AnachronError(f"no example is {positive!r}; the labels are {', '.join(sorted(set(truth)))}")
