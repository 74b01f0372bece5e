"""Tables to draw from: items with their cumulative probabilities, laid out once and drawn from many times."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from interp.errors import AnachronError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Table(Generic[Item]):
    """`cumulative[i]` = P(one of the first i + 1 items); the last is 1."""

    items: tuple[Item, ...]
    cumulative: tuple[float, ...]


def table(probabilities: Mapping[Item, float]) -> Table[Item]:
    """The table of a distribution. Raises if it doesn't sum to 1 within 1e-9 or has a negative entry."""
    p = np.array(list(probabilities.values()), dtype=np.float64)
    if not abs(p.sum() - 1) <= 1e-9 or (p < 0).any():  # written so that NaN fails too
        raise AnachronError(f"not a distribution: {dict(probabilities)}; its entries must be at least 0 and sum to 1")
    cumulative = p.cumsum()
    cumulative /= cumulative[-1]
    return Table(tuple(probabilities), tuple(cumulative.tolist()))


def draw(table: Table[Item], rng: np.random.Generator) -> Item:
    """One item. The same item, from the same state of `rng`, as `rng.choice(len(p), p=p)`, some ten times as fast."""
    return table.items[bisect_right(table.cumulative, rng.random())]


def in_rounds(pool: Sequence[Item], n: int, rng: np.random.Generator) -> list[Item]:
    """`n` of a pool in random order, each as often as any other or once more."""
    rounds = -(-n // len(pool))
    return [pool[i] for _ in range(rounds) for i in rng.permutation(len(pool))][:n]
