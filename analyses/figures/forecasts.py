"""Forecasts: what was foretold against what came, and how well each quantity foretells."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.maps import head
from analyses.figures.style import MODEL_COLORS, OTHER_COLOR, arrange, label
from interp.stats import Estimate

if TYPE_CHECKING:
    import plotly.graph_objects

SHADES = ("#b8c4d2", "#6f9cc4", MODEL_COLORS["tuned"])  # earlier steps are paler
SYMBOLS = ("circle-open", "circle", "diamond")
SIDES = {"fitted": (OTHER_COLOR, "circle-open"), "held out": (MODEL_COLORS["tuned"], "diamond")}


def forecast_ranks(values: Mapping[str, Mapping[str, Estimate]], *, title: str) -> "plotly.graph_objects.Figure":
    """`values[step][quantity]` are rank correlations on held-out units; a row a quantity, a mark a step."""
    import plotly.graph_objects as go

    figure = go.Figure()
    offsets = [0.22 * (i - (len(values) - 1) / 2) for i in range(len(values))]
    names = list(next(iter(values.values())))
    for i, (step, row) in enumerate(values.items()):
        back = len(values) - 1 - i  # the last step has the strongest colour, however many there are
        found = [row[name] for name in names]
        figure.add_scatter(
            x=[round(e.estimate, 4) for e in found],
            y=[k + offsets[i] for k in range(len(names))],
            mode="markers",
            name=label(step),
            marker={"color": SHADES[max(0, 2 - back)], "symbol": SYMBOLS[max(0, 2 - back)], "size": 9},
            error_x={
                "type": "data",
                "array": [round(e.high - e.estimate, 4) for e in found],
                "arrayminus": [round(e.estimate - e.low, 4) for e in found],
                "thickness": 1.4,
                "width": 0,
            },
            customdata=[label(name) for name in names],
            hovertemplate=f"%{{customdata}}, {label(step)}: %{{x:.2f}}<extra></extra>",
        )
    figure.add_vline(x=0, line={"width": 1, "color": MODEL_COLORS["base"]})
    arrange(figure, height=80 + 42 * len(names))
    figure.update_xaxes(title_text="rank correlation of forecast and outcome", range=[-1.02, 1.02])
    ticks = {"tickvals": list(range(len(names))), "ticktext": [label(name) for name in names]}
    figure.update_yaxes(autorange="reversed", showgrid=False, **ticks)
    head(figure, title, room=84)
    return figure


def forecast_scatter(
    sides: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    x: str,
    y: str = "final share of old answers, test topics",
) -> "plotly.graph_objects.Figure":
    """`sides[name]` = (early values, final shares), names as in `SIDES`; the line is the least-squares fit to
    "fitted"."""
    import numpy as np
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, (early, final) in sides.items():
        color, symbol = SIDES[name]
        figure.add_scatter(
            x=list(early),
            y=list(final),
            mode="markers",
            name=f"seeds {name}",
            marker={"color": color, "symbol": symbol, "size": 9},
            hovertemplate=f"{name}: %{{x:.3f}}, ends at %{{y:.1%}}<extra></extra>",
        )
    early, final = sides["fitted"]
    if np.ptp(early) > 0:
        slope, start = np.polyfit(early, final, 1)
        every = [value for values, _ in sides.values() for value in values]
        ends = [min(every), max(every)]
        figure.add_scatter(
            x=ends,
            y=[round(float(start + slope * end), 5) for end in ends],
            mode="lines",
            line={"color": OTHER_COLOR, "width": 1.5, "dash": "dash"},
            name="fit to the fitted seeds",
            hoverinfo="skip",
        )
    arrange(figure, height=380)
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y, tickformat=".0%")
    head(figure, title, room=84)
    return figure
