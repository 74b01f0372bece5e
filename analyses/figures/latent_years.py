"""What a latent (or a direction) does as the year in the prompt goes by, one line a model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analyses.figures.style import MODEL_COLORS, MODEL_SYMBOLS, OTHER_COLOR, arrange, band, label
from interp.stats import Estimate

if TYPE_CHECKING:
    import plotly.graph_objects


def activation_by_year(
    curves: Mapping[str, Mapping[int, Estimate]],
    *,
    title: str = "mean activation",
    marked: Mapping[str, tuple[int, int]] | None = None,
) -> "plotly.graph_objects.Figure":
    """`curves[model][year]` with its interval, drawn as a band. `marked` shades spans of years by name, first to last
    included: the years trained on, an era."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for model, by_year in curves.items():
        rows = sorted(by_year.items())
        years, found = [year for year, _ in rows], [m for _, m in rows]
        color = MODEL_COLORS[model] if model in MODEL_COLORS else OTHER_COLOR
        name = label(model)
        low, high = [m.low for m in found], [m.high for m in found]
        figure.add_scatter(**band(years, low, high, color=color, name=name, shown=False))
        figure.add_scatter(
            x=years,
            y=[m.estimate for m in found],
            mode="lines+markers" if len(years) <= 60 else "lines",
            name=name,
            legendgroup=name,
            line={"color": color, "width": 2.5},
            marker={"size": 7, "symbol": MODEL_SYMBOLS[model] if model in MODEL_SYMBOLS else "circle"},
            customdata=list(zip(low, high, strict=True)),
            hovertemplate=f"{name} %{{y:.3g}} (%{{customdata[0]:.3g}} to %{{customdata[1]:.3g}})<extra></extra>",
        )
    for name, (first, last) in (marked or {}).items():
        figure.add_vrect(
            x0=first - 0.5,
            x1=last + 0.5,
            fillcolor=OTHER_COLOR,
            opacity=0.12,
            line_width=0,
            annotation_text=label(name),
            annotation_position="top left",
        )
    arrange(figure, height=380, hovermode="x unified")
    figure.update_xaxes(title_text="year", tickformat="d", hoverformat="d")
    figure.update_yaxes(title_text=title)
    return figure
