"""Attribution over several experiments: how well estimates rank, and what a change says layer by layer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.maps import head
from analyses.figures.style import MODEL_COLORS, SUBJECTS, arrange, faded, label

if TYPE_CHECKING:
    import plotly.graph_objects

COLORS = (
    MODEL_COLORS["tuned"],
    MODEL_COLORS["control"],
    MODEL_COLORS[SUBJECTS[0]],
    MODEL_COLORS["induced"],
    MODEL_COLORS["own_wording"],
    MODEL_COLORS["suppressed"],
)
SYMBOLS = ("diamond", "square", "triangle-up", "circle", "triangle-down", "cross")


def agreement(
    values: Mapping[str, Mapping[str, Sequence[float]]], *, enough: float, title: str, unit: str = "rank correlation"
) -> "plotly.graph_objects.Figure":
    """`values[row][experiment]` are one number a seed: a row of marks, a colour and a symbol an experiment. A thin line
    stands at 0, a dashed one at `enough`."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = list(values)
    experiments = list(dict.fromkeys(name for row in values.values() for name in row))
    for i, experiment in enumerate(experiments):
        offset = 0.13 * (i - (len(experiments) - 1) / 2)
        at = [(k, value) for k, name in enumerate(names) for value in _of(values[name], experiment)]
        figure.add_scatter(
            x=[round(value, 4) for _, value in at],
            y=[k + offset for k, _ in at],
            mode="markers",
            name=label(experiment),
            marker={"color": COLORS[i % len(COLORS)], "symbol": SYMBOLS[i % len(SYMBOLS)], "size": 8, "opacity": 0.85},
            customdata=[label(names[k]) for k, _ in at],
            hovertemplate=f"%{{customdata}}, {label(experiment)}: %{{x:.2f}}<extra></extra>",
        )
    figure.add_vline(x=0, line={"width": 1, "color": MODEL_COLORS["base"]})
    figure.add_vline(x=enough, line={"width": 1.4, "color": MODEL_COLORS["base"], "dash": "dash"})
    arrange(figure, height=90 + 52 * len(names))
    figure.update_xaxes(title_text=label(unit))
    ticks = {"tickvals": list(range(len(names))), "ticktext": [label(name) for name in names]}
    figure.update_yaxes(autorange="reversed", showgrid=False, **ticks)
    head(figure, title, room=84)
    return figure


def readings(
    shares: Mapping[str, Mapping[str, Sequence[float | None]]],
    limits: Mapping[str, Mapping[str, Sequence[float | None]]],
    *,
    title: str,
) -> "plotly.graph_objects.Figure":
    """`shares[words][how]` are shares of a reading layer by layer, None where there is none; `limits` what random
    directions stay below, drawn paler. One panel a way of reading."""
    from plotly.subplots import make_subplots

    ways = list(dict.fromkeys(how for row in shares.values() for how in row))
    figure = make_subplots(rows=1, cols=len(ways), subplot_titles=ways, shared_yaxes=True)
    for column, how in enumerate(ways, start=1):
        for i, words in enumerate(shares):
            color = COLORS[i % len(COLORS)]
            lines = (
                (label(words), shares[words][how], color, {"width": 2.5}),
                (f"{label(words)}, random", limits[words][how], faded(color, 0.4), {"width": 1.5, "dash": "dot"}),
            )
            for name, values, shade, style in lines:
                figure.add_scatter(
                    x=list(range(len(values))),
                    y=[None if value is None else round(value, 4) for value in values],
                    mode="lines+markers",
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    line={"color": shade, **style},
                    marker={"size": 6, "symbol": SYMBOLS[i % len(SYMBOLS)]},
                    hovertemplate=f"{name}, layer %{{x}}: %{{y:.2f}}<extra></extra>",
                    row=1,
                    col=column,
                )
    arrange(figure, height=360)
    figure.update_xaxes(title_text="layer", dtick=1)
    figure.update_yaxes(title_text="share of the reading", tickformat=".0%", col=1)
    head(figure, title, room=112)
    return figure


def _of(row: Mapping[str, Sequence[float]], experiment: str) -> Sequence[float]:
    return row[experiment] if experiment in row else ()
