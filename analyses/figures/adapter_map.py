"""Which parts of an adapter matter: modules x singular directions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.maps import diverging, head
from analyses.figures.style import arrange, label, signed

if TYPE_CHECKING:
    import plotly.graph_objects

_NUMBERS_UP_TO = 200  # cells that get their number


def adapter_map(
    modules: Mapping[str, Sequence[float]],
    *,
    title: str = "Which parts of the adapter make the change",
    unit: str = "log-odds",
    limit: float | int | None = None,
) -> "plotly.graph_objects.Figure":
    """`modules[name][r]`: effect of singular direction r + 1 of that module's update. Modules in the order given, the
    first on top; those of lower rank end in empty cells."""
    import plotly.graph_objects as go

    rank = max((len(row) for row in modules.values()), default=0)
    z = [[*map(float, row), *[None] * (rank - len(row))] for row in modules.values()]
    numbers = rank * len(z) <= _NUMBERS_UP_TO
    figure = go.Figure()
    figure.add_heatmap(
        **diverging(z, unit, limit),
        x=[str(r + 1) for r in range(rank)],
        y=[label(name) for name in modules],
        text=[["" if v is None else signed(v) for v in row] for row in z] if numbers else None,
        texttemplate="%{text}" if numbers else None,
        hovertemplate="%{y}<br>direction %{x}: %{z:.3g}<extra></extra>",
    )
    arrange(figure, height=90 + 24 * len(z))
    figure.update_xaxes(title_text="singular direction, the largest first", type="category", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    head(figure, title)
    return figure
