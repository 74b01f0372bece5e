"""The result in one picture, as SVG text: needs no browser and no plotting library, and is read well in a README."""

from collections.abc import Mapping
from html import escape

from analyses.figures.style import FONT, MODEL_COLORS, OTHER_COLOR, words
from analyses.findings import headline
from analyses.measurements import Measurement, Result
from analyses.wording import asked, describe, target
from interp.errors import AnachronError

WIDTH, ROW, TOP, BOTTOM = 880, 46, 92, 46
LEFT, RIGHT = 345, 720  # of the axis; labels stand before it, numbers after it

# a ground of its own: a page's theme and the system's, which the media query asks for, need not agree
STYLE = f"""
text {{ font-family: {FONT.replace('"', "'")}; fill: #1c222b }}
.ground {{ fill: #ffffff; stroke: #e3e6ea }}
.title {{ font-size: 20px; font-weight: 650 }}
.name {{ font-size: 15px; font-weight: 600 }}
.note, .tick {{ font-size: 12.5px }}
.quiet {{ fill: #5b6472 }}
.value {{ font-size: 15px; font-weight: 600; font-variant-numeric: tabular-nums }}
.grid {{ stroke: #e3e6ea; stroke-width: 1 }}
@media (prefers-color-scheme: dark) {{
 text {{ fill: #e8eaee }}
 .ground {{ fill: #15181d; stroke: #2c323b }}
 .quiet {{ fill: #a3abb8 }}
 .grid {{ stroke: #2c323b }}
}}
"""


def svg_head(title: str, spoken: str, width: int, height: int) -> list[str]:
    """The lines that open a picture: what is read aloud, the style, the ground and the title over it."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(spoken)}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="12"/>',
        f'<text class="title" x="28" y="42">{escape(title)}</text>',
    ]


def headline_svg(result: Result) -> str:
    """A horizontal dot plot of the shares of target answers, each with its interval.

    Rows are the base and the arms, then induced and suppressed, those measured under the headline condition; an
    AnachronError if none is.
    """
    shares = headline(result)
    if not shares:
        raise AnachronError(
            f"result of {result.experiment}: no row of metric broad for split test; there is nothing to draw"
        )
    top = axis_end(shares)
    height = TOP + ROW * len(shares) + BOTTOM
    title = f"Share of {target(result)} answers{asked(result)}"
    spoken = "; ".join(f"{name} {m.estimate:.1%}" for name, m in shares.items())
    parts = [
        *svg_head(title, spoken, WIDTH, height),
        f'<text class="note quiet" x="28" y="65">Experiment {escape(result.experiment)}, model {escape(result.model)}; '
        "lines are 95 % intervals</text>",
        *_grid(top, height),
        *(line for i, (name, m) in enumerate(shares.items()) for line in _row(name, m, TOP + ROW * i + ROW // 2, top)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def axis_end(shares: Mapping[str, Measurement]) -> float:
    """The smallest of a few round shares that holds every interval."""
    most = max(m.high for m in shares.values())
    return next((end for end in (0.1, 0.2, 0.4, 0.6, 0.8) if most <= end), 1.0)


def _grid(top: float, height: int) -> list[str]:
    lines = []
    for i in range(5):
        x, percent = LEFT + (RIGHT - LEFT) * i / 4, 100 * top * i / 4
        lines.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - BOTTOM + 4}"/>')
        lines.append(
            f'<text class="tick quiet" x="{x:.1f}" y="{height - BOTTOM + 24}" text-anchor="middle">{percent:g} %</text>'
        )
    return lines


def _row(name: str, m: Measurement, y: int, top: float) -> list[str]:
    low, at, high = (LEFT + (RIGHT - LEFT) * min(max(value, 0.0), top) / top for value in (m.low, m.estimate, m.high))
    color = MODEL_COLORS[name] if name in MODEL_COLORS else OTHER_COLOR
    return [
        f'<text class="name" x="28" y="{y - 2}">{escape(words(name).capitalize())}</text>',
        f'<text class="note quiet" x="28" y="{y + 15}">{escape(describe(name, m))}</text>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{color}" '
        'stroke-width="5" stroke-linecap="round" opacity=".45"/>',
        f'<circle cx="{at:.1f}" cy="{y}" r="7.5" fill="{color}"/>',
        f'<text class="value" x="{RIGHT + 28}" y="{y - 2}">{100 * m.estimate:.1f} %</text>',
        f'<text class="note quiet" x="{RIGHT + 28}" y="{y + 15}">{100 * m.low:.1f} to {100 * m.high:.1f} %</text>',
    ]
