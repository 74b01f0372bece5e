"""Rank correlations against scipy's, and what counts as the top."""

import math

import pytest
import torch

from interp.attribution.confirmation import confirm, rank_correlation, top
from interp.errors import AnachronError


def test_rank_correlation_is_scipys():
    from scipy.stats import spearmanr

    g = torch.Generator().manual_seed(0)
    for n in (2, 3, 20):
        a = torch.randn(n, generator=g, dtype=torch.float64)
        b = a + torch.randn(n, generator=g, dtype=torch.float64)
        tied = b.round()
        for x, y in ((a, b), (a, tied) if n == 20 else (a, -b)):
            assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert math.isnan(rank_correlation(a, torch.zeros(20).double()))
    with pytest.raises(AnachronError, match="two or more"):
        rank_correlation(a[:1], b[:1])


def test_sizes_tell_what_signs_hide():
    screened = torch.tensor([3.0, -2, 1, -4]).double()
    exact = torch.tensor([[1.0, -3, 2, -2], [1.0, -3, 2, -2]]).double()
    found = confirm("abcd", screened, exact)
    assert found.rank_correlation > 0 > found.size_correlation
    assert torch.equal(found.exact, exact[0])


def test_the_top_is_by_size_and_ties_by_index():
    effect = torch.tensor([0.0, -3, 2, 3]).double()
    assert top(effect, 2) == [1, 3] and top(effect, 9) == [1, 3, 2, 0]
    with pytest.raises(AnachronError, match="at least one"):
        top(effect, 0)
