"""What the heat maps of attributions share: colours from -limit over 0 to limit, and a heading in plain words."""

import html
from collections.abc import Sequence

from analyses.figures.cosines import HIGH, LOW, MIDDLE
from analyses.figures.style import FONT
from interp.errors import AnachronError

Rows = Sequence[Sequence[float | None]]


def diverging(z: Rows, unit: str, limit: float | int | None = None) -> dict:
    """The keyword arguments of a heat map: one scale for all rows, empty where a value is None; `limit` is the largest
    absolute value unless given.

    Errors: AnachronError if there are no values, or some are NaN or infinite.
    """
    values = [abs(v) for row in z for v in row if v is not None]
    if not values or not all(v < float("inf") for v in values):
        raise AnachronError("a heat map of no values, or of NaN or infinite ones; give finite values")
    largest = limit if limit is not None else max(values) or 1.0
    return {
        "z": [list(row) for row in z],
        "zmin": -largest,
        "zmax": largest,
        "colorscale": [[at, f"rgb{color}"] for at, color in ((0, LOW), (0.5, MIDDLE), (1, HIGH))],
        "colorbar": {"title": {"text": html.escape(unit, quote=False)}, "thickness": 14},
        "hoverongaps": False,
        "xgap": 2,
        "ygap": 2,
    }


def head(figure, title: str, room: int = 44) -> None:
    """Write a title over a figure that `arrange` has laid out; `room` in pixels, more where a legend is above it."""
    text = {"text": html.escape(title, quote=False), "font": {"family": FONT, "size": 16}}
    figure.update_layout(
        title={**text, "x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 10}},
        margin={"t": room},
        height=figure.layout.height + room,
    )


def shown(token: str, longest: int | None = None) -> str:
    """A token as a label: a space before it isn't drawn, other white space is, and nothing acts as markup. One of more
    than `longest` characters is cut short."""
    visible = (token.removeprefix(" ") or "␣").replace("\n", "↵").replace("\t", "⇥")
    cut = visible if longest is None or len(visible) <= longest else f"{visible[: longest - 1]}…"
    return html.escape(cut, quote=False)
