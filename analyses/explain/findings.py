"""What a part of "why broad?" ends in: findings, each with a figure, an interval, and what would refute it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from analyses.measurements import versions
from interp.errors import AnachronError
from interp.files import read_json, write_json
from interp.stats import Estimate

VERDICTS = ("holds", "refuted", "undecided")


@dataclass(frozen=True)
class Finding:
    """One finding.

    `claim` is the sentence as measured, negative ones included; `refuted_if` says, as it stood before measuring, what
    would have shown the prediction wrong; `verdict` says whether it did. `estimate` is the figure that decides, in
    `unit`, over `n` of `over` (seeds, rows, worlds). `figure` is plotly's JSON, with a plain-language title.
    """

    name: str
    prediction: str
    refuted_if: str
    verdict: str
    claim: str
    estimate: Estimate
    unit: str
    over: str
    figure: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise AnachronError(f"finding {self.name}: verdict {self.verdict!r}; there are {', '.join(VERDICTS)}")
        for name in ("name", "prediction", "refuted_if", "claim", "unit", "over"):
            if not getattr(self, name).strip():
                raise AnachronError(f"a finding has no {name}; every finding states it")


@dataclass(frozen=True)
class Part:
    """One question of "why broad?" with its findings, and everything measured on the way as plain `rows`.

    All rows of a part have the same columns: what was varied, `metric`, and where it was repeated `estimate`, `low`,
    `high` and `n`, or else `seed` and `value`. `config` is all that the numbers depend on.
    """

    name: str
    question: str
    command: str
    config: Mapping[str, Any]
    findings: Sequence[Finding]
    rows: Sequence[Mapping[str, Any]]


def write_part(part: Part, path: Path) -> None:
    """Write it as JSON with the versions it was measured by, atomically."""
    write_json(path, asdict(part) | {"versions": versions()})


def read_part(path: Path) -> Part:
    """Read what `write_part` wrote. Errors: AnachronError naming the file and what it lacks."""
    data = read_json(path)
    missing = [f.name for f in fields(Part) if f.name not in data]
    if missing:
        raise AnachronError(f"{path}: fields {missing} are missing; give a file that `anachron explain` wrote")
    found = [Finding(**row | {"estimate": Estimate(**row["estimate"])}) for row in data["findings"]]
    return Part(**{f.name: data[f.name] for f in fields(Part)} | {"findings": found})
