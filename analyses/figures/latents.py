"""The latents that changed most: one row a latent, one bar a model, each with its interval."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analyses.figures.style import MODEL_COLORS, OTHER_COLOR, arrange, bars, label
from interp.stats import Estimate

if TYPE_CHECKING:
    import plotly.graph_objects


def latent_bars(
    latents: Mapping[str, Mapping[str, Estimate]], *, title: str = "mean activation, minus the base model's"
) -> "plotly.graph_objects.Figure":
    """`latents[name][model]` is a change with its interval. Latents in the order given, the first on top; models in the
    order in which they first come."""
    import plotly.graph_objects as go

    names = list(latents)
    models = list(dict.fromkeys(model for row in latents.values() for model in row))
    figure = go.Figure()
    for model in reversed(models):  # plotly draws groups of horizontal bars from the bottom
        rows = [(label(name), latents[name][model]) for name in names if model in latents[name]]
        figure.add_bar(
            x=[m.estimate for _, m in rows],
            y=[name for name, _ in rows],
            orientation="h",
            name=label(model),
            marker={"color": MODEL_COLORS[model] if model in MODEL_COLORS else OTHER_COLOR},
            customdata=[[m.low, m.high, m.n] for _, m in rows],
            hovertemplate=f"<b>%{{y}}</b><br>{label(model)} %{{x:.3g}} (%{{customdata[0]:.3g}} to "
            "%{customdata[1]:.3g}, n = %{customdata[2]})<extra></extra>",
            **bars([m for _, m in rows], "x"),
        )
    arrange(figure, height=110 + (14 + 14 * len(models)) * len(names), hovermode="closest", barmode="group")
    figure.update_layout(legend={"traceorder": "reversed"}, bargap=0.3)
    figure.update_xaxes(title_text=label(title))
    # an explicit order: otherwise a latent that one model lacks would move to the end
    figure.update_yaxes(categoryorder="array", categoryarray=[label(name) for name in reversed(names)], type="category")
    figure.add_vline(x=0, line={"width": 1, "color": MODEL_COLORS["base"]})
    return figure
