"""A property of latents, layer by layer, as a heat map."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analyses.figures.cosines import HIGH, LOW, MIDDLE
from analyses.figures.style import arrange, label, signed
from interp.errors import AnachronError

if TYPE_CHECKING:
    import plotly.graph_objects

_NUMBERS_UP_TO = 200  # cells that get their number


def latents_by_layer(
    values: Mapping[str, Mapping[int, float]], *, title: str, limit: float | int | None = None
) -> "plotly.graph_objects.Figure":
    """`values[name][layer]`: one row a latent (or whatever is followed through the layers), in the order given.

    Cells that are missing stay empty. The colours run from -limit over 0 to limit, the largest absolute value unless
    given.
    """
    import plotly.graph_objects as go

    layers = sorted({layer for row in values.values() for layer in row})
    if not layers:
        raise AnachronError("no values to draw; give at least one latent with a layer")
    largest = limit if limit is not None else max(abs(v) for row in values.values() for v in row.values()) or 1.0
    z = [[row[layer] if layer in row else None for layer in layers] for row in values.values()]
    numbers = len(layers) * len(values) <= _NUMBERS_UP_TO
    figure = go.Figure()
    figure.add_heatmap(
        z=z,
        x=[str(layer) for layer in layers],
        y=[label(name) for name in values],
        zmin=-largest,
        zmax=largest,
        colorscale=[[at, f"rgb{color}"] for at, color in ((0, LOW), (0.5, MIDDLE), (1, HIGH))],
        colorbar={"title": {"text": title}},
        text=[["" if v is None else signed(v) for v in row] for row in z] if numbers else None,
        texttemplate="%{text}" if numbers else None,
        hovertemplate=f"%{{y}}<br>layer %{{x}}: {label(title)} %{{z:.3g}}<extra></extra>",
        hoverongaps=False,
        xgap=2,
        ygap=2,
    )
    arrange(figure, height=130 + 28 * len(values))
    figure.update_xaxes(title_text="layer", type="category", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return figure
