"""Figures by fine-tuning step: every seed a line of its own, for seeds may part, and a mean would hide it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.style import MODEL_COLORS, OTHER_COLOR, arrange, faded, label
from interp.errors import AnachronError

if TYPE_CHECKING:
    import plotly.graph_objects

COLUMNS = ("model", "seed", "step", "metric", "value")
Seeds = Mapping[int, Mapping[int, float]]


def by_step(rows: Sequence[Mapping]) -> "plotly.graph_objects.Figure":
    """Rows of model, seed, step, metric and value; a panel a metric, a colour a model, a thin line a seed."""
    from plotly.subplots import make_subplots

    found = curves(rows)
    figure = make_subplots(
        rows=len(found),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.3 / (len(found) + 2),
        subplot_titles=[label(metric) for metric in found],
    )
    seen: set[str] = set()
    for i, models in enumerate(found.values(), start=1):
        for model, seeds in models.items():
            color, name = MODEL_COLORS[model] if model in MODEL_COLORS else OTHER_COLOR, label(model)
            for seed, points in seeds.items():
                figure.add_scatter(
                    x=list(points),
                    y=list(points.values()),
                    mode="lines",
                    line={"color": faded(color, 0.8), "width": 1.3},
                    name=name,
                    legendgroup=name,
                    showlegend=name not in seen,
                    hovertemplate=f"{name}, seed {seed}, step %{{x}}: %{{y:.1%}}<extra></extra>",
                    row=i,
                    col=1,
                )
                seen.add(name)
    arrange(figure, height=70 + 230 * len(found), hovermode="closest")
    figure.update_layout(legend={"y": 1 + 0.12 / len(found)})
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_xaxes(title_text="fine-tuning step", row=len(found), col=1)
    return figure


def curves(rows: Sequence[Mapping]) -> dict[str, dict[str, dict[int, dict[int, float]]]]:
    """`curves[metric][model][seed][step]` is a value; steps ascend."""
    found: dict[str, dict[str, dict[int, dict[int, float]]]] = {}
    for i, row in enumerate(rows):
        if missing := [name for name in COLUMNS if name not in row]:
            raise AnachronError(f"curves: row {i} has no {', '.join(missing)}; a row needs {', '.join(COLUMNS)}")
        seeds = found.setdefault(row["metric"], {}).setdefault(row["model"], {})
        seeds.setdefault(row["seed"], {})[row["step"]] = row["value"]
    return {
        metric: {
            model: {seed: dict(sorted(points.items())) for seed, points in seeds.items()}
            for model, seeds in models.items()
        }
        for metric, models in found.items()
    }
