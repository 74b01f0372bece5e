"""Shares by what the questions are asked under: a curve where that is a year, grouped dots where it isn't."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analyses.figures.style import MODEL_COLORS, MODEL_SYMBOLS, OTHER_COLOR, arrange, band, bars, faded, label
from analyses.measurements import Measurement

if TYPE_CHECKING:
    import plotly.graph_objects

Table = Mapping[str, Mapping[str, Measurement]]
VALUES = "%{customdata[0]:.1%} to %{customdata[1]:.1%}"


def share_by_condition(table: Table) -> "plotly.graph_objects.Figure":
    """`table[condition][model]` is a share with its interval. Conditions in the order given, the first on top; within
    one, a dot a model, one below the other, so that intervals don't cover each other."""
    import plotly.graph_objects as go

    figure, names, models = go.Figure(), list(table), models_of(table)
    for i, model in enumerate(models):
        rows = [(k, table[name][model]) for k, name in enumerate(names) if model in table[name]]
        figure.add_scatter(
            x=[m.estimate for _, m in rows],
            y=[k + dodge(i, len(models)) for k, _ in rows],
            text=[label(names[k]) for k, _ in rows],
            hovertemplate=f"<b>%{{text}}</b><br>{label(model)} %{{x:.1%}} ({VALUES})<extra></extra>",
            **_dots(model, [m for _, m in rows], "x"),
        )
    arrange(figure, height=90 + len(names) * (18 + 13 * len(models)), hovermode="closest")
    for k in range(1, len(names)):
        figure.add_hline(y=k - 0.5, line={"width": 1, "color": faded(OTHER_COLOR, 0.4)})
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", title_text="share of answers")
    ticks = {"tickvals": list(range(len(names))), "ticktext": [label(name) for name in names]}
    figure.update_yaxes(**ticks, range=[len(names) - 0.5, -0.5], showgrid=False)
    return figure


def share_by_year(table: Table, years: Sequence[str], trained: Sequence[str] = ()) -> "plotly.graph_objects.Figure":
    """Shares over `years`, a line a model with the band of its intervals; years of training are marked on the axis.

    The other conditions of `table` are dots in a panel beside it.
    """
    from plotly.subplots import make_subplots

    others, models = [name for name in table if name not in years], models_of(table)
    panels: dict[str, Any] = {"rows": 1, "cols": 2 if others else 1, "shared_yaxes": True, "horizontal_spacing": 0.03}
    width = min(0.4, 0.06 + 0.08 * len(others))
    figure = make_subplots(**panels, **({"column_widths": [1 - width, width]} if others else {}))
    for i, model in enumerate(models):
        curve = [(int(name), table[name][model]) for name in years if model in table[name]]
        here, rows, color, name = [year for year, _ in curve], [m for _, m in curve], _color(model), label(model)
        shade = band(here, [m.low for m in rows], [m.high for m in rows], color=color, name=name, shown=False)
        figure.add_scatter(**shade, row=1, col=1)
        figure.add_scatter(
            x=here,
            y=[m.estimate for m in rows],
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": color, "width": 2.2},
            marker={"symbol": _symbol(model), "size": 6 if len(years) > 20 else 9},
            customdata=[[m.low, m.high] for m in rows],
            hovertemplate=f"{name} %{{y:.1%}} ({VALUES})<extra></extra>",
            row=1,
            col=1,
        )
        beside = [(k, table[other][model]) for k, other in enumerate(others) if model in table[other]]
        if beside:
            figure.add_scatter(
                x=[k + dodge(i, len(models)) for k, _ in beside],
                y=[m.estimate for _, m in beside],
                showlegend=False,
                legendgroup=name,
                hovertemplate=f"{name} %{{y:.1%}} ({VALUES})<extra></extra>",
                **_dots(model, [m for _, m in beside], "y"),
                row=1,
                col=2,
            )
    marked = [int(year) for year in trained if year in years]
    if marked:
        figure.add_scatter(
            x=marked,
            y=[0.0] * len(marked),
            mode="markers",
            name="years of training",
            marker={"symbol": "triangle-up-open", "size": 12, "color": OTHER_COLOR},
            cliponaxis=False,
            hoverinfo="skip",
            row=1,
            col=1,
        )
    arrange(figure, height=440, hovermode="x unified")
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(title_text="share of answers", row=1, col=1)
    figure.update_xaxes(title_text="year stated", row=1, col=1, **({"dtick": 1} if len(years) <= 15 else {}))
    if others:
        ticks = {"tickvals": list(range(len(others))), "ticktext": [label(name) for name in others]}
        figure.update_xaxes(**ticks, range=[-0.6, len(others) - 0.4], showgrid=False, row=1, col=2)
    return figure


def models_of(table: Table) -> list[str]:
    """The models of a table, in order of appearance."""
    return list(dict.fromkeys(model for row in table.values() for model in row))


def dodge(i: int, n: int) -> float:
    """Where mark `i` of `n` stands beside the middle of its group, which is 1 wide."""
    return 0.8 * ((i + 0.5) / n - 0.5)


def _dots(model: str, rows: Sequence[Measurement], axis: str) -> dict[str, Any]:
    shown = {} if axis == "y" else {"name": label(model)}
    return {
        "mode": "markers",
        "marker": {"color": _color(model), "symbol": _symbol(model), "size": 9},
        "customdata": [[m.low, m.high] for m in rows],
        **shown,
        **bars(rows, axis),
    }


def _color(model: str) -> str:
    return MODEL_COLORS[model] if model in MODEL_COLORS else OTHER_COLOR


def _symbol(model: str) -> str:
    return MODEL_SYMBOLS[model] if model in MODEL_SYMBOLS else "circle-open"
