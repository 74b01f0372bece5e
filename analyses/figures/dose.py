"""Dose-response: what adding a direction does to the behaviour and to coherence, coefficient by coefficient."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analyses.figures.style import METHOD_COLORS, MODEL_COLORS, arrange, band, label, method_line
from analyses.measurements import Measurement

if TYPE_CHECKING:
    import plotly.graph_objects

PANELS = {"broad": "share of answers", "coherence": "coherence"}


def dose_response(
    curves: Mapping[str, Mapping[str, Sequence[Measurement]]],
    *,
    chosen: tuple[str, float] | None = None,
    levels: Mapping[str, float] | None = None,
) -> "plotly.graph_objects.Figure":
    """`curves[metric][direction]` are measurements in order of coefficient, one panel a metric: `broad`, `coherence`.

    The curve of `random` is drawn as the band of its intervals. `chosen` = (direction, coefficient) gets a star in
    every panel. `levels` are shares of models without any edit, drawn as thin lines in the panel of `broad`.
    """
    from plotly.subplots import make_subplots

    panels = [metric for metric in PANELS if curves.get(metric)]
    heights = [0.62, 0.38] if len(panels) == 2 else None
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=heights)
    seen: set[str] = set()
    for i, metric in enumerate(panels, start=1):
        for direction, rows in curves[metric].items():
            for trace in _traces(direction, rows, shown=direction not in seen, marked=chosen):
                figure.add_scatter(**trace, row=i, col=1)
            seen.add(direction)
        figure.update_yaxes(title_text=PANELS[metric], tickformat=".0%", row=i, col=1)
    for model, level in (levels or {}).items() if "broad" in panels else ():
        line = {"width": 1, "color": MODEL_COLORS[model]}
        figure.add_hline(
            y=level,
            line=line,
            row=panels.index("broad") + 1,
            col=1,
            annotation_text=model,
            annotation_position="top left",
        )
    arrange(figure, height=520 if len(panels) == 2 else 360, hovermode="x unified")
    figure.update_xaxes(title_text="coefficient (in units of the typical residual norm)", row=len(panels), col=1)
    return figure


def _traces(
    direction: str, rows: Sequence[Measurement], shown: bool, marked: tuple[str, float] | None
) -> list[dict[str, Any]]:
    name = label(direction)
    x, y = [m.coefficient for m in rows], [m.estimate for m in rows]
    common: dict[str, Any] = {
        "x": x,
        "y": y,
        "line": method_line(direction, 2.5 if direction != "random" else 1.2),
        "customdata": [[m.low, m.high] for m in rows],
        "hovertemplate": f"{name} %{{y:.1%}} (%{{customdata[0]:.1%}} to %{{customdata[1]:.1%}})<extra></extra>",
    }
    if direction == "random":
        color, name = METHOD_COLORS["random"], "random directions"
        shade = band(x, [m.low for m in rows], [m.high for m in rows], color=color, name=name, shown=shown)
        return [shade, {**common, "mode": "lines", "showlegend": False, "legendgroup": name}]
    color = common["line"]["color"]
    shade = band(x, [m.low for m in rows], [m.high for m in rows], color=color, name=name, shown=False) | {
        "opacity": 0.6
    }
    traces = [
        shade,
        {
            **common,
            "mode": "lines+markers",
            "name": name,
            "legendgroup": name,
            "showlegend": shown,
            "marker": {"size": 6},
        },
    ]
    star = [m for m in rows if marked == (direction, m.coefficient)]
    if star:
        traces.append(
            {
                "x": [m.coefficient for m in star],
                "y": [m.estimate for m in star],
                "mode": "markers",
                "name": "chosen on validation",
                "showlegend": shown,
                "hoverinfo": "skip",
                "marker": {"symbol": "star", "size": 17, "color": color, "line": {"width": 1.5, "color": "#ffffff"}},
            }
        )
    return traces
