"""Share of the target answers, topic by topic, one mark a model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analyses.figures.style import MODEL_COLORS, MODEL_SYMBOLS, arrange, bars, label
from analyses.measurements import Measurement

if TYPE_CHECKING:
    import plotly.graph_objects


def share_by_topic(topics: Mapping[str, Mapping[str, Measurement]]) -> "plotly.graph_objects.Figure":
    """`topics[topic][model]` is a share (0 to 1) with its interval. Topics in the order given, the first on top."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = list(topics)
    values = "%{x:.1%} (%{customdata[0]:.1%} to %{customdata[1]:.1%})"
    for model, symbol in MODEL_SYMBOLS.items():
        rows = [(label(topic), topics[topic][model]) for topic in names if model in topics[topic]]
        if not rows:
            continue
        figure.add_scatter(
            x=[m.estimate for _, m in rows],
            y=[name for name, _ in rows],
            mode="markers",
            name=label(model),
            marker={"color": MODEL_COLORS[model], "symbol": symbol, "size": 10},
            customdata=[[m.low, m.high] for _, m in rows],
            hovertemplate=f"<b>%{{y}}</b><br>{label(model)} {values}<extra></extra>",
            **bars([m for _, m in rows], "x"),
        )
    arrange(figure, height=110 + 26 * len(names), hovermode="closest")
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", title_text="share of answers")
    # an explicit order: otherwise a topic that the first model lacks would move to the end
    figure.update_yaxes(categoryorder="array", categoryarray=[label(name) for name in reversed(names)], type="category")
    return figure
