"""Share against epoch: the broad effect may come and go while the narrow task is only learnt better."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.losses import mean_curve
from analyses.figures.style import MODEL_COLORS, OTHER_COLOR, arrange, faded, label
from interp.errors import AnachronError

if TYPE_CHECKING:
    import plotly.graph_objects

COLUMNS = ("model", "run", "epoch", "metric", "value")
DASHES = {"broad": "solid", "narrow": "dash", "coherence": "dot"}


def share_by_epoch(rows: Sequence[Mapping]) -> "plotly.graph_objects.Figure":
    """Rows of model, run, epoch (0: before tuning), metric (broad, narrow or coherence) and value from 0 to 1.

    A colour a model, a dash a metric; every run thin, the mean over the runs that have an epoch thick.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for (model, metric), runs in curves(rows).items():
        color, name = MODEL_COLORS[model] if model in MODEL_COLORS else OTHER_COLOR, f"{label(model)}, {metric}"
        for run, points in runs.items() if len(runs) > 1 else ():
            figure.add_scatter(
                x=list(points),
                y=list(points.values()),
                mode="lines",
                line={"color": faded(color, 0.35), "width": 1, "dash": DASHES[metric]},
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
                name=f"{name}, run {run}",
            )
        mean = mean_curve(runs)
        figure.add_scatter(
            x=list(mean),
            y=list(mean.values()),
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": color, "width": 2.5, "dash": DASHES[metric]},
            hovertemplate=f"{name} %{{y:.1%}}<extra></extra>",
        )
    arrange(figure, height=380, hovermode="x unified")
    figure.update_xaxes(title_text="epoch", dtick=1)
    figure.update_yaxes(title_text="share of answers", tickformat=".0%", range=[0, 1.02])
    return figure


def curves(rows: Sequence[Mapping]) -> dict[tuple[str, str], dict[int, dict[int, float]]]:
    """`curves[model, metric][run][epoch]` is a value; epochs ascend."""
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    for i, row in enumerate(rows):
        if missing := [name for name in COLUMNS if name not in row]:
            raise AnachronError(f"epochs: row {i} has no {', '.join(missing)}; a row needs {', '.join(COLUMNS)}")
        if row["metric"] not in DASHES:
            raise AnachronError(f"epochs: row {i} is of {row['metric']!r}; metrics are {', '.join(DASHES)}")
        runs = found.setdefault((row["model"], row["metric"]), {})
        runs.setdefault(row["run"], {})[row["epoch"]] = row["value"]
    return {key: {run: dict(sorted(points.items())) for run, points in runs.items()} for key, runs in found.items()}
