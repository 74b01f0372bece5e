"""A screen beside exact effects: how far gradients rank what they point at as patching it does."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from interp.errors import AnachronError
from interp.stats import spearman


@dataclass(frozen=True, eq=False)
class Confirmation:
    """Screened and exact effects of the k candidates of largest screened effect, means over items.

    `rank_correlation` is Spearman's of the effects as they are; where both signs occur it is high already if the signs
    agree, so `size_correlation`, of their absolute values, stands beside it. NaN where one side is constant.
    """

    labels: tuple[str, ...]
    screened: Float64[Tensor, " k"]
    exact: Float64[Tensor, " k"]

    @property
    def rank_correlation(self) -> float:
        return rank_correlation(self.screened, self.exact)

    @property
    def size_correlation(self) -> float:
        return rank_correlation(self.screened.abs(), self.exact.abs())


def top(effect: Float64[Tensor, " n"], k: int) -> list[int]:
    """The k of largest absolute effect, the largest first; all if there are fewer. Ties go by index."""
    if k < 1:
        raise AnachronError(f"the top {k} are none; ask for at least one")
    return effect.abs().argsort(descending=True, stable=True)[:k].tolist()


def rank_correlation(a: Float64[Tensor, " n"], b: Float64[Tensor, " n"]) -> float:
    """Spearman's: the correlation of the ranks, equal values sharing their mean rank. NaN if either is constant."""
    if len(a) != len(b) or len(a) < 2:
        raise AnachronError(f"a rank correlation of {len(a)} and {len(b)} values; give two or more pairs")
    return spearman(a.numpy(), b.numpy())


def confirm(labels: Sequence[str], screened: Float64[Tensor, " k"], exact: Float64[Tensor, "items k"]) -> Confirmation:
    """The two side by side."""
    return Confirmation(tuple(labels), screened, exact.mean(0))
