"""Times of things done in turn, compared repeat by repeat: what slows the machine for a while slows both sides."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """A cost over a reference: median, quartiles and range over repeats, and the target it should stay below.

    `a` and `b` are the medians of both sides, in `unit`; with `unit` "s" and no reference, `median` is seconds itself.
    """

    name: str
    subject: str
    median: float
    low: float
    high: float
    quartiles: tuple[float, float]
    repeats: int
    target: float | None
    a: float
    b: float | None
    unit: str

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.median <= self.target


def summarise(
    name: str, subject: str, a: list[float], b: list[float] | None, *, target: float | None, unit: str = "s"
) -> Ratio:
    """The ratio a / b over repeats, pair by pair; without b the values of a themselves."""
    values = np.array(a) if b is None else np.array(a) / np.array(b)
    first, median, third = np.quantile(values, [0.25, 0.5, 0.75])
    return Ratio(
        name,
        subject,
        float(median),
        float(values.min()),
        float(values.max()),
        (float(first), float(third)),
        len(values),
        target,
        float(np.median(a)),
        None if b is None else float(np.median(b)),
        unit,
    )


def in_turn(jobs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each job, `repeats` times over, after one round that doesn't count. Every other round runs backwards,
    so that no job always follows the same one."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name in list(jobs) if turn % 2 else reversed(list(jobs)):
            start = time.perf_counter()
            jobs[name]()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds
