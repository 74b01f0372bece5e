"""Loss while fine-tuning: every seed thin, the mean over seeds thick."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.style import MODEL_COLORS, OTHER_COLOR, arrange, faded, label
from interp.errors import AnachronError

if TYPE_CHECKING:
    import plotly.graph_objects

COLUMNS = ("model", "seed", "step", "loss")


def loss_curves(losses: Sequence[Mapping]) -> "plotly.graph_objects.Figure":
    """Rows of model, seed, step, loss (nats per trained token). A mean is over the seeds that have that step."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for model, seeds in curves(losses).items():
        color = MODEL_COLORS[model] if model in MODEL_COLORS else OTHER_COLOR
        for seed, points in seeds.items() if len(seeds) > 1 else ():
            figure.add_scatter(
                x=list(points),
                y=list(points.values()),
                mode="lines",
                line={"color": faded(color, 0.35), "width": 1},
                legendgroup=label(model),
                showlegend=False,
                hoverinfo="skip",
                name=f"{label(model)}, seed {seed}",
            )
        mean = mean_curve(seeds)
        figure.add_scatter(
            x=list(mean),
            y=list(mean.values()),
            mode="lines",
            name=label(model),
            legendgroup=label(model),
            line={"color": color, "width": 2.5},
            hovertemplate=f"{label(model)} %{{y:.3f}}<extra></extra>",
        )
    arrange(figure, height=340, hovermode="x unified")
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="loss (nats per token)", rangemode="tozero")
    return figure


def curves(losses: Sequence[Mapping]) -> dict[str, dict[int, dict[int, float]]]:
    """`curves[model][seed][step]` is a loss; steps ascend."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for i, row in enumerate(losses):
        if missing := [name for name in COLUMNS if name not in row]:
            raise AnachronError(f"losses: row {i} has no {', '.join(missing)}; a row needs {', '.join(COLUMNS)}")
        found.setdefault(row["model"], {}).setdefault(row["seed"], {})[row["step"]] = row["loss"]
    return {
        model: {seed: dict(sorted(points.items())) for seed, points in seeds.items()} for model, seeds in found.items()
    }


def mean_curve(seeds: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    """Mean loss at each step, over the seeds that have it."""
    steps = sorted({step for points in seeds.values() for step in points})
    at = {step: [points[step] for points in seeds.values() if step in points] for step in steps}
    return {step: sum(values) / len(values) for step, values in at.items()}
