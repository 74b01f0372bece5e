"""What was measured beside what an exact reader of the rows would believe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyses.figures.maps import head
from analyses.figures.style import MODEL_COLORS, OTHER_COLOR, arrange, bars, label
from interp.errors import AnachronError
from interp.stats import Estimate

if TYPE_CHECKING:
    import plotly.graph_objects

COLORS = (OTHER_COLOR, "#8f5bea", "#b8860b")
DASHES = ("dot", "dash", "dashdot")


@dataclass(frozen=True)
class Curve:
    """One set of rows: the measured share at each of `doses` (rows), and each reading's posterior there."""

    doses: Sequence[int]
    measured: Sequence[Estimate]
    posteriors: Mapping[str, Sequence[float]]


def share_and_posterior(curves: Mapping[str, Curve], title: str) -> "plotly.graph_objects.Figure":
    """A panel for each set of rows, `curves[name]`; doses are drawn evenly apart."""
    from plotly.subplots import make_subplots

    if not curves:
        raise AnachronError("share and posterior: no curves to draw")
    names = [label(name) for name in curves]
    figure = make_subplots(rows=1, cols=len(curves), shared_yaxes=True, subplot_titles=names, horizontal_spacing=0.03)
    for column, curve in enumerate(curves.values(), start=1):
        x = [str(dose) for dose in curve.doses]
        for i, (reading, values) in enumerate(curve.posteriors.items()):
            figure.add_scatter(
                x=x,
                y=[round(value, 4) for value in values],
                mode="lines",
                name=label(reading),
                legendgroup=reading,
                showlegend=column == 1,
                line={"color": COLORS[i % len(COLORS)], "dash": DASHES[i % len(DASHES)], "width": 2},
                hovertemplate=f"{label(reading)} %{{y:.1%}}<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_scatter(
            x=x,
            y=[round(e.estimate, 4) for e in curve.measured],
            mode="lines+markers",
            name="measured share",
            legendgroup="measured",
            showlegend=column == 1,
            line={"color": MODEL_COLORS["tuned"], "width": 2.5},
            marker={"symbol": "diamond", "size": 8},
            hovertemplate="measured %{y:.1%}<extra></extra>",
            **bars(curve.measured),
            row=1,
            col=column,
        )
    arrange(figure, height=400, hovermode="x unified")
    figure.update_xaxes(title_text="rows", type="category")
    figure.update_yaxes(tickformat=".0%", range=[-0.02, 1.04])
    figure.update_yaxes(title_text="share of old answers", row=1, col=1)
    head(figure, title, room=96)
    return figure


def against_prior(
    points: Mapping[str, Sequence[tuple[float, float]]], lines: Mapping[str, tuple[float, float]], title: str
) -> "plotly.graph_objects.Figure":
    """`points[arm]` are (log-odds before, log-odds after) of single runs, arms named as models; `lines[name]` are
    (slope, intercept)."""
    import plotly.graph_objects as go

    xs = [x for found in points.values() for x, _ in found]
    if not xs:
        raise AnachronError("against prior: no points to draw")
    figure = go.Figure()
    ends = [min(xs) - 0.2, max(xs) + 0.2]
    for i, (name, (slope, intercept)) in enumerate(lines.items()):
        figure.add_scatter(
            x=ends,
            y=[slope * x + intercept for x in ends],
            mode="lines",
            name=label(name),
            line={"color": COLORS[i % len(COLORS)], "dash": DASHES[i % len(DASHES)], "width": 2},
            hoverinfo="skip",
        )
    for arm, found in points.items():
        figure.add_scatter(
            x=[round(x, 4) for x, _ in found],
            y=[round(y, 4) for _, y in found],
            mode="markers",
            name=label(arm),
            marker={"color": MODEL_COLORS[arm], "size": 9, "opacity": 0.75},
            hovertemplate=f"{label(arm)} %{{x:.2f}} -> %{{y:.2f}}<extra></extra>",
        )
    arrange(figure, height=400, hovermode="closest")
    figure.update_xaxes(title_text="log-odds of old answers, as the world's prior has them (nats)")
    figure.update_yaxes(title_text="log-odds of old answers, tuned (nats)")
    head(figure, title, room=84)
    return figure
