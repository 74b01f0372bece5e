"""Forecasts: a number fitted on some units from quantities known early, tested on units that had no part in the fit."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from interp.errors import AnachronError
from interp.stats import Estimate, spearman

PENALTIES = tuple(10.0**k for k in np.arange(-2, 3.5, 0.5))
Matrix = Float[np.ndarray, "units quantities"]
Vector = Float[np.ndarray, " units"]


@dataclass(frozen=True, eq=False)
class Forecast:
    """`predicted` and `actual` of the units that were held out; `centre` is the mean of those fitted."""

    predicted: Vector
    actual: Vector
    centre: float

    @property
    def r2(self) -> float:
        """1 - sum (y - forecast)^2 / sum (y - centre)^2: above 0 where it beats saying the fitted units' mean."""
        left = ((self.actual - self.predicted) ** 2).sum()
        return float(1 - left / ((self.actual - self.centre) ** 2).sum())

    @property
    def rank(self) -> float:
        """Spearman's rank correlation of forecast and outcome; 0 for a forecast that is the same for all."""
        found = spearman(self.predicted, self.actual)
        return 0.0 if np.isnan(found) else found


def halves(n: int, first: int | None = None) -> tuple[list[int], list[int]]:
    """(fitted, held out): every other unit, from the first; or the `first` units and those after them. AnachronError
    below two in each."""
    fitted = list(range(0, n, 2)) if first is None else list(range(min(first, n)))
    held_out = [i for i in range(n) if i not in fitted]
    if min(len(fitted), len(held_out)) < 2:
        raise AnachronError(f"{n} seeds can't be halved into fitted and held-out ones; take 4 or more")
    return fitted, held_out


def forecast(x: Matrix, y: Vector, first: int | None = None) -> Forecast:
    """Fit on one half, foretell the other: least squares for one quantity, ridge for several.

    Quantities are standardised by the fitted half; the penalty is the one of `PENALTIES` with the smallest
    leave-one-out error there, from the hat matrix H = X (X'X + lambda I)^-1 X': e_i / (1 - H_ii - 1/n).
    """
    fitted, held_out = halves(len(y), first)
    centre, scale = x[fitted].mean(0), x[fitted].std(0)
    z = (x - centre) / np.where(scale > 0, scale, 1.0)
    target = y[fitted] - y[fitted].mean()
    penalty = 0.0 if x.shape[1] == 1 else min(PENALTIES, key=lambda p: _left_out(z[fitted], target, p))
    weights = _ridge(z[fitted], target, penalty)
    return Forecast(z[held_out] @ weights + y[fitted].mean(), y[held_out], float(y[fitted].mean()))


def shuffled(
    x: Matrix, y: Vector, first: int | None = None, *, seed: int = 0, times: int = 200
) -> Float[np.ndarray, " times"]:
    """Rank correlations on the held-out half of forecasts whose fitted half had its outcomes shuffled: the control."""
    fitted, _ = halves(len(y), first)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(times):
        mixed = y.copy()
        mixed[fitted] = y[rng.permutation(fitted)]
        found.append(forecast(x, mixed, first).rank)
    return np.array(found)


def rank_estimate(found: Forecast, *, seed: int = 0, samples: int = 2000) -> Estimate:
    """Its rank correlation with a 95 % bootstrap interval over the held-out units. The fit stays as it is: where few
    units were fitted on, another halving can give another sign."""
    at = _draws(found, seed, samples)
    return _estimate(found.rank, _rank_rows(found.predicted[at], found.actual[at]), found)


def r2_estimate(found: Forecast, *, seed: int = 0, samples: int = 2000) -> Estimate:
    """Its R^2 with such an interval."""
    at = _draws(found, seed, samples)
    left = ((found.actual - found.predicted) ** 2)[at].sum(1)
    return _estimate(found.r2, 1 - left / ((found.actual - found.centre) ** 2)[at].sum(1), found)


def rank_difference(a: Forecast, b: Forecast, *, seed: int = 0, samples: int = 2000) -> Estimate:
    """a's rank correlation minus b's, paired: both on the same resampled units. AnachronError if those differ."""
    if not np.array_equal(a.actual, b.actual):
        raise AnachronError("two forecasts of different units can't be compared; give both the same seeds")
    at = _draws(a, seed, samples)
    of_a, of_b = (_rank_rows(one.predicted[at], one.actual[at]) for one in (a, b))
    return _estimate(a.rank - b.rank, of_a - of_b, a)


def spread(y: Vector, *, seed: int = 0, samples: int = 2000) -> Estimate:
    """Standard deviation over units (n - 1 in the denominator) with a 95 % bootstrap interval."""
    rng = np.random.default_rng(seed)
    values = [y[rng.integers(len(y), size=len(y))].std(ddof=1) for _ in range(samples)]
    low, high = np.quantile(values, [0.025, 0.975])
    at = float(y.std(ddof=1))
    return Estimate(at, min(float(low), at), max(float(high), at), len(y))


def _ridge(z: Matrix, target: Vector, penalty: float) -> Float[np.ndarray, " quantities"]:
    return np.linalg.lstsq(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ target, rcond=None)[0]


def _left_out(z: Matrix, target: Vector, penalty: float) -> float:
    """Sum of squared leave-one-out errors; 1/n is the fitted mean's part of the hat matrix."""
    hat = z @ np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T)
    return float((((target - hat @ target) / (1 - np.diag(hat) - 1 / len(target))) ** 2).sum())


def _draws(found: Forecast, seed: int, samples: int) -> Int[np.ndarray, "draws units"]:
    """Units drawn with replacement, draws of fewer than two different outcomes left out: they have no order."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(found.actual), size=(samples, len(found.actual)))
    return drawn[np.ptp(found.actual[drawn], axis=1) > 0]


def _rank_rows(a: Float[np.ndarray, "draws units"], b: Float[np.ndarray, "draws units"]) -> Float[np.ndarray, " draws"]:
    """Spearman's correlation row by row, ties at their mean rank; 0 where a row is constant."""

    def centred(values: np.ndarray) -> np.ndarray:
        less = (values[:, None, :] < values[:, :, None]).sum(-1)
        no_more = (values[:, None, :] <= values[:, :, None]).sum(-1)
        ranks = (less + no_more) / 2
        return ranks - ranks.mean(1, keepdims=True)

    first, second = centred(a), centred(b)
    scale = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return (first * second).sum(1) / np.where(scale > 0, scale, 1.0)


def _estimate(value: float, resampled: Float[np.ndarray, " draws"], found: Forecast) -> Estimate:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(value, min(float(low), value), max(float(high), value), len(found.actual))
