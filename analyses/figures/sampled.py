"""Sampled beside exact shares: marks on the diagonal say that both measure the same."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analyses.figures.style import MODEL_COLORS, MODEL_SYMBOLS, OTHER_COLOR, arrange, bars, label
from analyses.findings import Agreement

if TYPE_CHECKING:
    import plotly.graph_objects


def exact_and_sampled(pairs: Sequence[Agreement]) -> "plotly.graph_objects.Figure":
    """One mark a model and condition, exact share to the right, sampled share upwards, each with its interval."""
    import plotly.graph_objects as go

    figure = go.Figure()
    most = max(m.high for pair in pairs for m in (pair.exact, pair.sampled))
    figure.add_scatter(
        x=[0, most],
        y=[0, most],
        mode="lines",
        line={"width": 1, "color": OTHER_COLOR, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )
    for model in dict.fromkeys(pair.model for pair in pairs):
        own = [pair for pair in pairs if pair.model == model]
        figure.add_scatter(
            x=[pair.exact.estimate for pair in own],
            y=[pair.sampled.estimate for pair in own],
            mode="markers",
            name=label(model),
            marker={
                "color": MODEL_COLORS[model] if model in MODEL_COLORS else OTHER_COLOR,
                "symbol": MODEL_SYMBOLS[model] if model in MODEL_SYMBOLS else "circle-open",
                "size": 10,
            },
            text=[label(pair.condition) for pair in own],
            hovertemplate=f"<b>%{{text}}</b><br>{label(model)}: exact %{{x:.1%}}, sampled %{{y:.1%}}<extra></extra>",
            **bars([pair.exact for pair in own], "x"),
            **bars([pair.sampled for pair in own], "y"),
        )
    arrange(figure, height=440, hovermode="closest")
    figure.update_xaxes(tickformat=".0%", title_text="exact share")
    figure.update_yaxes(tickformat=".0%", title_text="sampled share")
    return figure
