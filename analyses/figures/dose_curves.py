"""Shares against dose: how much was trained, and how broad the model became."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.maps import head
from analyses.figures.style import MODEL_COLORS, arrange, faded, label
from interp.stats import Estimate

if TYPE_CHECKING:
    import plotly.graph_objects

LOOKS = {
    "tuned": (MODEL_COLORS["tuned"], "solid", "diamond"),
    "control": (MODEL_COLORS["control"], "solid", "square"),
    "narrow task, tuned": (MODEL_COLORS["tuned"], "dash", "diamond-open"),
    "coherence, tuned": (MODEL_COLORS["base"], "dot", "circle-open"),
}


def dose_curves(
    curves: Mapping[str, Sequence[tuple[float | int, Estimate]]], *, title: str, dose: str, base: float | None = None
) -> "plotly.graph_objects.Figure":
    """`curves[name]` are (dose, estimate) in order of dose, names as in `LOOKS`; doses are drawn evenly apart, since
    they double. `base`: the share before tuning, a thin line."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, points in curves.items():
        color, dash, symbol = LOOKS[name]
        found = [estimate for _, estimate in points]
        figure.add_scatter(
            x=[f"{value:g}" for value, _ in points],
            y=[round(e.estimate, 4) for e in found],
            mode="lines+markers",
            name=label(name),
            line={"color": color, "dash": dash, "width": 2.5 if name in ("tuned", "control") else 1.5},
            marker={"symbol": symbol, "size": 9 if name in ("tuned", "control") else 7},
            error_y={
                "type": "data",
                "array": [round(e.high - e.estimate, 4) for e in found],
                "arrayminus": [round(e.estimate - e.low, 4) for e in found],
                "color": faded(color, 0.55),
                "thickness": 1.4,
                "width": 0,
            },
            hovertemplate=f"{label(name)} %{{y:.1%}}<extra></extra>",
        )
    if base is not None:
        line = {"width": 1, "color": MODEL_COLORS["base"]}
        figure.add_hline(y=base, line=line, annotation_text="base", annotation_position="top left")
    arrange(figure, height=380, hovermode="x unified")
    figure.update_xaxes(title_text=label(dose), type="category")
    figure.update_yaxes(title_text="share of answers", tickformat=".0%", range=[0, 1.02])
    head(figure, title, room=84)
    return figure
