"""The paper's figures and this project's own, one line each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analyses.compare.paper import Beside
from analyses.figures.style import MODEL_COLORS, OTHER_COLOR, arrange, faded, label

if TYPE_CHECKING:
    import plotly.graph_objects

PAPER = "#8f5bea"


def paper_and_own(rows: Sequence[Beside]) -> "plotly.graph_objects.Figure":
    """A line a figure, in the order given: the paper's as an open mark, ours as a dot with its interval."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = [f"{label(row.figure.experiment)}: {label(row.figure.what)}" for row in rows]
    own = [(i, row.estimate, row.low, row.high) for i, row in enumerate(rows) if row.estimate is not None]
    figure.add_scatter(
        x=[row.figure.paper for row in rows],
        y=list(range(len(rows))),
        mode="markers",
        name="paper",
        marker={"symbol": "diamond-open", "size": 12, "color": PAPER, "line": {"width": 2}},
        text=names,
        customdata=[row.figure.mark for row in rows],
        hovertemplate="<b>%{text}</b><br>paper %{customdata} %{x:.1%}<extra></extra>",
    )
    figure.add_scatter(
        x=[at for _, at, _, _ in own],
        y=[i for i, _, _, _ in own],
        mode="markers",
        name="this project",
        marker={"symbol": "circle", "size": 10, "color": MODEL_COLORS["tuned"]},
        error_x={
            "type": "data",
            "array": [max(0.0, (high or 0.0) - (at or 0.0)) for _, at, _, high in own],
            "arrayminus": [max(0.0, (at or 0.0) - (low or 0.0)) for _, at, low, _ in own],
            "thickness": 1.4,
            "width": 0,
        },
        text=[names[i] for i, _, _, _ in own],
        hovertemplate="<b>%{text}</b><br>here %{x:.1%}<extra></extra>",
    )
    for i in range(1, len(rows)):
        if rows[i].figure.experiment != rows[i - 1].figure.experiment:
            figure.add_hline(y=i - 0.5, line={"width": 1, "color": faded(OTHER_COLOR, 0.4)})
    arrange(figure, height=110 + 27 * len(rows), hovermode="closest")
    figure.update_xaxes(tickformat=".0%", title_text="share of answers", range=[-0.02, 1.02])
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=names, range=[len(rows) - 0.5, -0.5], showgrid=False)
    return figure
