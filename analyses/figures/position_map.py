"""Where in the model a change sits: layers x positions, the prompt's tokens along the bottom."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analyses.figures.maps import Rows, diverging, head, shown
from analyses.figures.style import arrange
from interp.errors import AnachronError

if TYPE_CHECKING:
    import plotly.graph_objects


def position_map(
    values: Rows,
    tokens: Sequence[str],
    layers: Sequence[int],
    *,
    title: str = "Where the change sits: the effect of patching each layer and token",
    unit: str = "log-odds",
    limit: float | int | None = None,
) -> "plotly.graph_objects.Figure":
    """`values[i][j]`: effect at layer `layers[i]` and token `tokens[j]`; None where not measured. Layer 0 below."""
    import plotly.graph_objects as go

    if len(values) != len(layers) or any(len(row) != len(tokens) for row in values):
        raise AnachronError(
            f"a map of {len(layers)} layers and {len(tokens)} tokens needs as many rows and columns of values"
        )
    figure = go.Figure()
    figure.add_heatmap(
        **diverging(values, unit, limit),
        y=[str(layer) for layer in layers],
        customdata=[[shown(token) for token in tokens] for _ in layers],
        hovertemplate="layer %{y}, %{customdata}: %{z:.3g}<extra></extra>",
    )
    arrange(figure, height=110 + 24 * len(layers))
    # positions are numbered, since a token may occur twice
    ticks = {"tickvals": list(range(len(tokens))), "ticktext": [shown(token) for token in tokens]}
    figure.update_xaxes(title_text="token", showgrid=False, tickangle=-45 if len(tokens) > 8 else 0, **ticks)
    figure.update_yaxes(title_text="layer", type="category", showgrid=False)
    head(figure, title)
    return figure
