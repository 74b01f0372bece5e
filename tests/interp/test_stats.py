"""Intervals checked by hand, by coverage on distributions whose truth is known, and by brute force."""

import numpy as np
import pytest

from interp.errors import AnachronError
from interp.stats import Estimate, bootstrap, paired_difference


def coverage(draw, truth, trials, samples=400):
    rng = np.random.default_rng(7)
    estimates = [bootstrap(draw(rng), seed=i, samples=samples) for i in range(trials)]
    return np.mean([e.low <= truth <= e.high for e in estimates])


def test_two_values_by_hand():
    # Resamples of (0, 1): (0,0), (0,1) twice, (1,1): a quarter, a half, a quarter; the outer 2.5 % are 0 and 1.
    assert bootstrap([0.0, 1.0]) == Estimate(0.5, 0.0, 1.0, 2)
    # At the 40 % level the tails of 30 % reach past the outer quarters, so both ends are 0.5.
    assert bootstrap([0.0, 1.0], level=0.4) == Estimate(0.5, 0.5, 0.5, 2)


def test_equal_values_have_no_width():
    assert bootstrap(np.full((3, 7), 0.1)) == Estimate(0.1, 0.1, 0.1, 3)


def test_one_level_equals_explicit_resampling():
    values = np.random.default_rng(0).gamma(2.0, size=20)
    means = np.random.default_rng(1).choice(values, size=(200_000, 20)).mean(axis=1)
    got = bootstrap(values, samples=200_000)
    np.testing.assert_allclose([got.low, got.high], np.quantile(means, [0.025, 0.975]), atol=0.01)
    assert got.estimate == pytest.approx(values.mean()) and got.n == 20


def test_two_levels_equal_explicit_resampling_of_rows_and_columns():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(6, 1)) + rng.normal(size=(1, 9)) + rng.normal(size=(6, 9))
    rows, columns = rng.integers(6, size=(40_000, 6)), rng.integers(9, size=(40_000, 9))
    means = values[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    got = bootstrap(values, samples=40_000)
    np.testing.assert_allclose([got.low, got.high], np.quantile(means, [0.025, 0.975]), atol=0.03)
    assert got.n == 6


@pytest.mark.parametrize("n", [20, 30])
def test_coverage_of_a_normal_mean(n):
    # 800 trials have a standard error of .9 %; the percentile interval's own deficit at this n is about 2 %.
    assert 0.905 <= coverage(lambda rng: rng.normal(3.0, 2.0, size=n), 3.0, trials=800) <= 0.96


def test_coverage_over_seeds_and_questions():
    def draw(rng):
        return rng.normal(size=(25, 1)) + rng.normal(size=(1, 25)) + rng.normal(size=(25, 25))

    assert 0.90 <= coverage(draw, 0.0, trials=500) <= 0.97


def test_means_over_questions_alone_would_not_cover_other_questions():
    """Why there are two levels: with questions that differ and seeds that agree, one level is far too narrow."""

    def draw(rng):
        return rng.normal(size=(1, 25)) + 0.1 * rng.normal(size=(25, 25))

    assert coverage(draw, 0.0, trials=300) >= 0.89
    assert coverage(lambda rng: draw(rng).mean(axis=1), 0.0, trials=300) <= 0.3


def test_paired_difference_cancels_what_pairs_share():
    rng = np.random.default_rng(3)
    shared = rng.normal(0.0, 50.0, size=(8, 12))
    a = shared + 1.0 + 0.1 * rng.normal(size=shared.shape)
    got = paired_difference(a, shared)
    assert got.low < 1.0 < got.high and got.high - got.low < 0.2
    assert got == bootstrap(a - shared)
    assert paired_difference([3.0, 5.0], [1.0, 1.0]) == Estimate(3.0, 2.0, 4.0, 2)


def test_one_seed_varies_questions_only():
    values = np.arange(10.0)
    two, one = bootstrap(values[None, :], samples=20_000), bootstrap(values, samples=20_000)
    assert two.n == 1
    assert two.low == pytest.approx(one.low, abs=0.1) and two.high == pytest.approx(one.high, abs=0.1)


def test_same_seed_same_numbers():
    values = np.random.default_rng(4).normal(size=(5, 6))
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1) != bootstrap(values, seed=2)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0], "at least two"),
        (np.array(0.5), "at least two"),
        (np.zeros((2, 2, 2)), "at least two"),
        ([[1.0, 2.0], [float("nan"), 1.0]], r"index \[1, 0\]"),
        ([1.0, float("inf")], r"index \[1\]"),
    ],
)
def test_unusable_values_are_refused(values, says):
    with pytest.raises(AnachronError, match=says):
        bootstrap(values)


def test_unpaired_shapes_and_bad_levels_are_refused():
    with pytest.raises(AnachronError, match=r"\[2\] and \[3\]"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(AnachronError, match="level"):
        bootstrap([1.0, 2.0], level=95.0)
