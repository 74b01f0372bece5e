"""Findings in one picture, as SVG text: each estimate with its interval and its verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from analyses.figures.headline import svg_head
from analyses.figures.style import MODEL_COLORS, signed, words
from interp.errors import AnachronError
from interp.stats import Estimate

VERDICT_COLORS: Mapping[str, str] = MappingProxyType(
    {"holds": MODEL_COLORS["dated"], "refuted": MODEL_COLORS["tuned"], "undecided": MODEL_COLORS["base"]}
)
WIDTH, ROW, TOP, BOTTOM = 880, 46, 88, 20
LEFT, RIGHT = 345, 640  # of every row's own axis


@dataclass(frozen=True)
class Line:
    """One finding: what it is called, its verdict, the unit of its estimate."""

    name: str
    verdict: str
    unit: str
    estimate: Estimate


def verdicts_svg(title: str, lines: Sequence[Line]) -> str:
    """A row a finding, each on a scale of its own around 0 (units differ). AnachronError for no findings."""
    if not lines:
        raise AnachronError(f"{title}: no findings; there is nothing to draw")
    height = TOP + ROW * len(lines) + BOTTOM
    spoken = "; ".join(f"{line.name} {line.verdict}, {signed(line.estimate.estimate)}" for line in lines)
    middle = (LEFT + RIGHT) / 2
    parts = [
        *svg_head(title, spoken, WIDTH, height),
        '<text class="note quiet" x="28" y="65">Estimates with 95 % intervals, each row on its own scale; the line in '
        "the middle is 0</text>",
        f'<line class="grid" x1="{middle}" x2="{middle}" y1="{TOP - 4}" y2="{height - BOTTOM}"/>',
        *(text for i, line in enumerate(lines) for text in _row(line, TOP + ROW * i + ROW // 2)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _row(line: Line, y: int) -> list[str]:
    found, middle, half = line.estimate, (LEFT + RIGHT) / 2, (RIGHT - LEFT) / 2
    most = max(abs(found.low), abs(found.high), abs(found.estimate)) or 1.0
    low, at, high = (middle + half * value / most for value in (found.low, found.estimate, found.high))
    color = VERDICT_COLORS[line.verdict]
    numbers = f"{signed(found.estimate)} [{signed(found.low)}, {signed(found.high)}]"
    return [
        f'<text class="name" x="28" y="{y - 2}">{escape(words(line.name).capitalize())}</text>',
        f'<text class="note quiet" x="28" y="{y + 15}">{escape(line.unit)}, n = {found.n}</text>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{color}" '
        'stroke-width="5" stroke-linecap="round" opacity=".45"/>',
        f'<circle cx="{at:.1f}" cy="{y}" r="7.5" fill="{color}"/>',
        f'<text class="value" x="{RIGHT + 24}" y="{y - 2}">{numbers}</text>',
        f'<text class="note quiet" x="{RIGHT + 24}" y="{y + 15}">{escape(line.verdict)}</text>',
    ]
