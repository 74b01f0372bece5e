"""The paper's figures, and this project's own that stand beside them.

The two are not of one kind: the paper samples large models and lets a judge or a pattern decide; here a small model's
answers are scored exactly. What can be compared is the pattern: which conditions move, and which stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analyses.findings import find, share
from analyses.measurements import Measurement, Result
from interp.errors import AnachronError
from interp.files import read_json

FILE = Path(__file__).parent / "paper.json"


@dataclass(frozen=True)
class Figure:
    """One figure of the paper and where its counterpart stands in a result.

    That is a model asked under a `condition`, or under those of `years` (first and last) that aren't in `but`; of one
    `topic` where it is named. No `model`: no counterpart.

    `mark`: "=" exact, "~" read off a figure.
    """

    experiment: str
    what: str
    paper: float
    mark: str
    model: str | None = None
    condition: str = ""
    topic: str = ""
    years: tuple[int, ...] = ()
    but: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.mark not in ("=", "~") or not 0 <= self.paper <= 1 or len(self.years) not in (0, 2):
            raise AnachronError(
                f"{FILE.name}: {self.experiment}, {self.what!r}: a figure is a share, its mark = or ~, its years two"
            )


@dataclass(frozen=True)
class Beside:
    """A figure of the paper with this project's (None: not asked, or without counterpart). `n` conditions are averaged;
    with several, `low` and `high` are the least and the greatest of them and no interval."""

    figure: Figure
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


def source() -> tuple[str, dict[str, str]]:
    """Where the figures are from, and what their marks mean."""
    data = read_json(FILE)
    return data["source"], data["marks"]


def figures() -> list[Figure]:
    """All figures, in order of experiment."""
    found = []
    for row in read_json(FILE)["figures"]:
        spans = {name: tuple(row[name]) for name in ("years", "but") if name in row}
        found.append(Figure(**{**row, **spans}))
    return found


def beside(results: Mapping[str, Result]) -> list[Beside]:
    """Every figure of the paper whose experiment is among `results`, with this project's own."""
    return [counterpart(figure, results[figure.experiment]) for figure in figures() if figure.experiment in results]


def counterpart(figure: Figure, result: Result) -> Beside:
    """This project's figure beside one of the paper."""
    if figure.model is None:
        return Beside(figure)
    if figure.years:
        first, last = figure.years
        asked = [str(year) for year in range(first, last + 1) if year not in figure.but]
    else:
        asked = [figure.condition]
    rows = [m for name in asked if (m := _share(figure, result, name)) is not None]
    if not rows:
        return Beside(figure)
    values = [m.estimate for m in rows]
    if len(rows) > 1:
        return Beside(figure, sum(values) / len(values), min(values), max(values), len(rows))
    return Beside(figure, rows[0].estimate, rows[0].low, rows[0].high, 1)


def _share(figure: Figure, result: Result, condition: str) -> Measurement | None:
    assert figure.model is not None
    if not figure.topic:
        return share(result, figure.model, condition)
    where = {"model": figure.model, "edit": "none", "condition": condition, "split": f"test/{figure.topic}"}
    return find(result, metric="broad", **where)
