"""All parts as one HTML page: a question a section, a figure, an interval and a verdict a finding."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analyses.explain.findings import VERDICTS, Finding, Part
from analyses.figures.verdicts import VERDICT_COLORS
from analyses.page import render


@dataclass(frozen=True)
class Shown:
    """A finding as it stands on the page; `figure` is None where an earlier one, `same_as`, has drawn it."""

    id: str
    finding: Finding
    figure: Mapping[str, Any] | None
    same_as: str = ""


@dataclass(frozen=True)
class Section:
    """A part as it stands on the page; `config` as pairs of a setting and its value."""

    part: Part
    findings: tuple[Shown, ...]
    config: tuple[tuple[str, str], ...]


def page_html(parts: Sequence[Part]) -> str:
    """The page as text. Same parts and same plotly, same text."""
    everything = [finding for part in parts for finding in part.findings]
    return render(
        "explain.html.jinja",
        sections=[section(part) for part in parts],
        counts={verdict: sum(f.verdict == verdict for f in everything) for verdict in VERDICTS},
        verdicts=VERDICT_COLORS,
    )


def section(part: Part) -> Section:
    """The part with each figure drawn once."""
    drawn: dict[str, Shown] = {}
    shown = []
    for i, finding in enumerate(part.findings, start=1):
        key = json.dumps(finding.figure, sort_keys=True)
        first = drawn[key] if key in drawn else None
        one = Shown(
            f"{part.name}-{i}",
            finding,
            finding.figure if finding.figure and first is None else None,
            "" if first is None or not finding.figure else first.id,
        )
        drawn.setdefault(key, one)
        shown.append(one)
    config = tuple((key, value if isinstance(value, str) else json.dumps(value)) for key, value in part.config.items())
    return Section(part, tuple(shown), config)
