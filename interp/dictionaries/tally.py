"""Sums over prompts of what latents do in several arms, and what follows from them: means, intervals, tests.

The unit is the prompt, or a cluster of prompts (the phrasings of one question), since positions of one unit aren't
independent. With S_i the sum of a latent over the positions of unit i, n_i their number, an arm's mean activation is
the ratio sum S_i / sum n_i, and a contrast a weighted sum of arms' means on the same units, unit i of every arm paired.

Interval: percentile bootstrap over units, all arms resampled together (Efron 1979; weights drawn unit by unit as
binomials, which is the multinomial). Test: t = contrast / se with n - 1 degrees of freedom, se the cluster-robust
standard error of the linearised ratios, sqrt(sum e_i^2 / (n (n - 1))), e_i = sum_arms c (S_i - mean n_i) n / sum n;
with one position a unit this is the paired t-test. q: Benjamini & Hochberg 1995 over the latents active in any arm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from interp.dictionaries.activity import Active
from interp.errors import AnachronError

LEVEL = 0.95
_PIECE = 1024  # latents whose resampled sums are made at once


@dataclass(frozen=True, eq=False)
class Contrast:
    """Per latent a difference of mean activations: `mean` with its 95 % interval, t, p (two-sided) and q.

    `n` units were resampled and tested: prompts, clusters of them, or fine-tuning seeds. A latent that is nowhere
    active has p = q = 1.
    """

    mean: Float64[Tensor, " d_sae"]
    low: Float64[Tensor, " d_sae"]
    high: Float64[Tensor, " d_sae"]
    t: Float64[Tensor, " d_sae"]
    p: Float64[Tensor, " d_sae"]
    q: Float64[Tensor, " d_sae"]
    n: int


@dataclass(eq=False)
class Tally:
    """Adds up units, group by group. Memory: 4 bytes x `samples` x d_sae a contrast (and a set of arms whose units have
    unequal numbers of positions), and pieces of fixed size; nothing grows with the number of units but `counts`.

    `counts[arm]`: selected positions of every unit. `contrasts[name]`: the coefficient of each arm.
    """

    d_sae: int
    counts: Mapping[str, Int[Tensor, " units"]]
    contrasts: Mapping[str, Mapping[str, float]]
    samples: int = 1000
    seed: int = 0
    sums: dict[str, Float64[Tensor, " d_sae"]] = field(init=False)
    active: dict[str, Float64[Tensor, " d_sae"]] = field(init=False)

    def __post_init__(self) -> None:
        _check(self.counts, self.contrasts, self.samples)
        self.sums = {arm: torch.zeros(self.d_sae, dtype=torch.float64) for arm in self.counts}
        self.active = {arm: torch.zeros(self.d_sae, dtype=torch.float64) for arm in self.counts}
        # arms whose prompts have the same numbers of positions are divided by the same sum, in every resample
        sets = {tuple(counts.tolist()): counts for counts in self.counts.values()}
        self._sets = list(sets.values())
        self._set_of = {arm: list(sets).index(tuple(counts.tolist())) for arm, counts in self.counts.items()}
        self._present = torch.stack(list(self.counts.values())).sum(dim=0) > 0
        self.n = int(self._present.sum())
        if self.n < 2:
            raise AnachronError(
                f"{self.n} prompts (or clusters) with a selected position; an interval needs at least two"
            )
        totals = torch.stack([counts.double().sum() for counts in self._sets])
        self._u = torch.stack(self._sets, dim=1).double() * self.n / totals  # [units, sets]
        self._place = torch.zeros(len(self._present), dtype=torch.long)
        self._squares = {name: torch.zeros(self.d_sae, dtype=torch.float64) for name in self.contrasts}
        self._cross = {name: torch.zeros(len(self._sets), self.d_sae, dtype=torch.float64) for name in self.contrasts}
        self._resampled = {
            (name, k): torch.zeros(self.d_sae, self.samples)
            for name, arms in self.contrasts.items()
            for k in {self._set_of[arm] for arm in arms}
        }
        self._drawn = np.zeros((len(self._sets), self.samples))
        self._left = np.full(self.samples, self.n)
        self._to_come = self.n
        self._rng = np.random.default_rng(self.seed)

    def add(self, units: Sequence[int], found: Mapping[str, Active]) -> None:
        """Add whole units, each once, in an order that is part of the seed; `found[arm]` holds their latents, with the
        number of the unit as `prompt`."""
        self._place[list(units)] = torch.arange(len(units))
        latents, index = torch.unique(torch.cat([a.latent for a in found.values()]), return_inverse=True)
        width, begin = len(latents), 0
        sums: dict[str, Tensor] = {}
        for arm, a in found.items():
            column = index[begin : begin + len(a.latent)]
            begin += len(a.latent)
            flat = torch.zeros(len(units) * width, dtype=torch.float64)
            flat.index_add_(0, self._place[a.prompt[a.row]] * width + column, a.value.double())
            sums[arm] = flat.view(len(units), width)
            self.sums[arm].index_add_(0, latents, sums[arm].sum(dim=0))
            self.active[arm].index_add_(0, latents, torch.bincount(column, minlength=width).double())
        weights = self._weights(units)
        u = self._u[list(units)]
        for name, arms in self.contrasts.items():
            y = torch.zeros(len(units), width, dtype=torch.float64)
            for k in {self._set_of[arm] for arm in arms}:
                part = sum(c * sums[arm] for arm, c in arms.items() if self._set_of[arm] == k)
                assert isinstance(part, Tensor)
                y += part * (self.n / float(self._sets[k].sum()))
                part = part.float()
                for low in range(0, width, _PIECE):
                    at = slice(low, low + _PIECE)
                    self._resampled[name, k].index_add_(0, latents[at], part[:, at].T @ weights)
            self._squares[name].index_add_(0, latents, y.square().sum(dim=0))
            self._cross[name].index_add_(1, latents, u.T @ y)

    def mean(self, arm: str) -> Float64[Tensor, " d_sae"]:
        """Mean activation over an arm's positions."""
        return self.sums[arm] / float(self.counts[arm].sum())

    def frequency(self, arm: str) -> Float64[Tensor, " d_sae"]:
        """Share of an arm's positions at which a latent is active."""
        return self.active[arm] / float(self.counts[arm].sum())

    def alive(self) -> Tensor:
        """Latents active anywhere in any arm."""
        return torch.stack(list(self.active.values())).sum(dim=0) > 0

    def contrast(self, name: str) -> Contrast:
        """The contrast `name` over units. All units must have been added."""
        if self._to_come:
            raise AnachronError(f"{self._to_come} of {self.n} units haven't been added to the tally; add them first")
        arms = self.contrasts[name]
        means = torch.zeros(len(self._sets), self.d_sae, dtype=torch.float64)
        for arm, c in arms.items():
            means[self._set_of[arm]] += c * self.mean(arm)
        mean = means.sum(dim=0)
        between = self._u.T @ self._u
        squares = self._squares[name] - 2 * (means * self._cross[name]).sum(dim=0) + (means * (between @ means)).sum(0)
        error = (squares.clamp(min=0) / (self.n * (self.n - 1))).sqrt()
        low, high = self._interval(name)
        return tested(mean, error, low, high, self.n, self.alive())

    def _interval(self, name: str) -> tuple[Tensor, Tensor]:
        used = sorted({self._set_of[arm] for arm in self.contrasts[name]})
        drawn = torch.from_numpy(self._drawn)
        whole = (drawn[used] > 0).all(dim=0)  # a resample may miss every position of an arm
        quantiles = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
        parts = []
        for begin in range(0, self.d_sae, _PIECE):
            at = slice(begin, begin + _PIECE)
            means = torch.stack([self._resampled[name, k][at].double() / drawn[k] for k in used]).sum(dim=0)
            parts.append(torch.quantile(means[:, whole], quantiles, dim=1))
        low, high = torch.cat(parts, dim=1)
        return low, high

    def _weights(self, units: Sequence[int]) -> Float[Tensor, "units samples"]:
        """How often each unit is drawn in each resample: binomial given what earlier units left."""
        drawn = np.zeros((len(units), self.samples))
        for row, unit in enumerate(units):
            if self._present[unit]:
                if not self._to_come:
                    raise AnachronError(f"unit {unit} comes after all {self.n} were added; add each once")
                drawn[row] = self._rng.binomial(self._left, 1 / self._to_come)
                self._left -= drawn[row].astype(self._left.dtype)
                self._to_come -= 1
        self._drawn += np.stack([counts[list(units)].double().numpy() @ drawn for counts in self._sets])
        return torch.from_numpy(drawn).float()


def over_seeds(values: Float64[Tensor, "seeds d_sae"], alive: Tensor) -> Contrast:
    """The mean over fine-tuning seeds with its t interval and t-test, n - 1 degrees of freedom."""
    from scipy import stats

    n = len(values)
    if n < 2:
        raise AnachronError(f"{n} seed; an interval over seeds needs at least two")
    mean, error = values.mean(dim=0), values.std(dim=0) / n**0.5
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return tested(mean, error, mean - half, mean + half, n, alive)


def tested(mean: Tensor, error: Tensor, low: Tensor, high: Tensor, n: int, alive: Tensor) -> Contrast:
    """A contrast with t, p and q, from means and standard errors. `alive`: the latents that are tested."""
    from scipy import stats

    t = torch.where(error > 0, mean / error.where(error > 0, 1.0), torch.where(mean == 0, 0.0, mean.sign() * 1e12))
    p = torch.from_numpy(2 * stats.t.sf(t.abs().numpy(), n - 1)).clamp(max=1.0)
    p = torch.where(alive, p, 1.0)
    q = torch.ones_like(p)
    q[alive] = benjamini_hochberg(p[alive])
    return Contrast(mean, low, high, t, p, q, n)


def benjamini_hochberg(p: Float64[Tensor, " tests"]) -> Float64[Tensor, " tests"]:
    """q_(i) = min over j >= i of p_(j) m / j: the smallest false discovery rate at which a test is rejected."""
    order = p.argsort(descending=True)
    m = len(p)
    scaled = p[order] * m / torch.arange(m, 0, -1, dtype=p.dtype)
    q = torch.empty_like(p)
    q[order] = scaled.cummin(dim=0).values.clamp(max=1.0) if m else scaled
    return q


def _check(counts: Mapping[str, Tensor], contrasts: Mapping[str, Mapping[str, float]], samples: int) -> None:
    empty = [arm for arm, c in counts.items() if not int(c.sum())]
    if empty:
        raise AnachronError(f"no position is selected in the prompts of {', '.join(empty)}; choose other positions")
    for name, arms in contrasts.items():
        if unknown := [arm for arm in arms if arm not in counts]:
            raise AnachronError(f"contrast {name!r}: no arm {', '.join(unknown)}; there are {', '.join(counts)}")
    if samples < 100:
        raise AnachronError(f"{samples} resamples; a 95 % interval needs 100 or more")
