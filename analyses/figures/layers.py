"""How well each method's direction does, layer by layer, against a band of random directions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.style import METHOD_COLORS, arrange, band, bars, label, method_line
from analyses.measurements import Measurement

if TYPE_CHECKING:
    import plotly.graph_objects


def by_layer(
    methods: Mapping[str, Sequence[Measurement]],
    *,
    title: str,
    reference: float,
    limits: tuple[float, float] | None = None,
) -> "plotly.graph_objects.Figure":
    """`methods[method]` are measurements in order of layer; those of `random` are drawn as the band of their intervals.

    `reference` is the value of no skill, drawn as a thin line; `limits` bounds the vertical axis.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for method, rows in methods.items():
        layers = [m.layer for m in rows]
        interval = "(%{customdata[0]:.3f} to %{customdata[1]:.3f})"
        if method == "random":
            shade = band(
                layers,
                [m.low for m in rows],
                [m.high for m in rows],
                color=METHOD_COLORS["random"],
                name="random directions",
            )
            figure.add_scatter(**shade)
        figure.add_scatter(
            x=layers,
            y=[m.estimate for m in rows],
            mode="lines+markers" if method != "random" else "lines",
            name=label(method),
            line=method_line(method, 2.5 if method != "random" else 1.2),
            marker={"size": 8},
            showlegend=method != "random",
            legendgroup="random directions" if method == "random" else label(method),
            customdata=[[m.low, m.high] for m in rows],
            hovertemplate=f"{label(method)} %{{y:.3f}} {interval}<extra></extra>",
            **({} if method == "random" else bars(rows)),
        )
    figure.add_hline(y=reference, line={"width": 1, "color": METHOD_COLORS["random"]})
    arrange(figure, height=360, hovermode="x unified")
    shown = sorted({m.layer for rows in methods.values() for m in rows if m.layer is not None})
    figure.update_xaxes(title_text="layer", **({"tickvals": shown} if len(shown) <= 40 else {}))
    figure.update_yaxes(title_text=title, range=limits)
    return figure
