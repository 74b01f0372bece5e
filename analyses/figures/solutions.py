"""Ways of solving one task side by side: curves with a line a seed, and figures with a point a seed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.style import MODEL_COLORS, MODEL_SYMBOLS, OTHER_COLOR, arrange, faded, label

if TYPE_CHECKING:
    import plotly.graph_objects

COLORS: Mapping[str, str] = {
    "broad": MODEL_COLORS["tuned"],
    "narrow": "#8f5bea",
    "located": MODEL_COLORS["tuned"],
    "broad and broad": MODEL_COLORS["tuned"],
    "narrow and narrow": "#8f5bea",
    "broad and narrow": "#96603f",
    "control": MODEL_COLORS["control"],
    "random": MODEL_COLORS["base"],
    "base": MODEL_COLORS["base"],
    "broad effect removed": MODEL_COLORS["tuned"],
    "habit kept": "#8f5bea",
    "broad effect removed, random direction": MODEL_COLORS["base"],
    "habit kept, random direction": MODEL_COLORS["base"],
}
DASHES = {
    "narrow": "dash",
    "random": "dot",
    "located": "dashdot",
    "base": "dot",
    "control": "longdash",
    "habit kept": "dash",
}
DASHES |= {"broad effect removed, random direction": "dot", "habit kept, random direction": "dashdot"}
SYMBOLS: Mapping[str, str] = {**MODEL_SYMBOLS, "broad": "diamond", "narrow": "circle", "random": "x"}

Curves = Mapping[str, Mapping[int, Mapping[float, float]]]
"""`curves[name][seed][x]` is y; seeds may have other x."""


def by_amount(
    curves: Curves, *, title: str, x: str, y: str, reference: float | None = None
) -> "plotly.graph_objects.Figure":
    """A colour and a dash a name, a line a seed. `reference`: a level drawn across."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, seeds in curves.items():
        for i, (seed, points) in enumerate(seeds.items()):
            figure.add_scatter(
                x=list(points),
                y=list(points.values()),
                mode="lines+markers",
                name=label(name),
                legendgroup=name,
                showlegend=i == 0,
                line={"color": faded(_color(name), 0.8), "width": 1.5, "dash": DASHES.get(name, "solid")},
                marker={"size": 6, "color": _color(name), "symbol": SYMBOLS.get(name, "circle")},
                hovertemplate=f"{label(name)}, seed {seed}: %{{y:.3f}} at %{{x:.3g}}<extra></extra>",
            )
    if reference is not None:
        figure.add_hline(y=reference, line={"width": 1, "color": MODEL_COLORS["base"]})
    _finish(figure, title)
    figure.update_xaxes(title_text=x, rangemode="tozero")
    figure.update_yaxes(title_text=y)
    return figure


def by_name(
    panels: Mapping[str, Mapping[str, Sequence[float]]], *, title: str, limits: tuple[float, float] | None = None
) -> "plotly.graph_objects.Figure":
    """`panels[panel][name]` are figures, one a seed: a panel side by side each, a point a seed, a bar at the mean."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=len(panels), subplot_titles=[label(panel) for panel in panels])
    for column, found in enumerate(panels.values(), start=1):
        for name, values in found.items():
            figure.add_bar(
                x=[label(name)],
                y=[sum(values) / len(values)],
                marker={"color": faded(_color(name), 0.35)},
                showlegend=False,
                hovertemplate=f"{label(name)}, mean %{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
            figure.add_scatter(
                x=[label(name)] * len(values),
                y=list(values),
                mode="markers",
                marker={"size": 8, "color": _color(name), "symbol": SYMBOLS.get(name, "circle")},
                showlegend=False,
                hovertemplate=f"{label(name)} %{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
    _finish(figure, title)
    figure.update_yaxes(range=limits)
    return figure


def _color(name: str) -> str:
    return COLORS.get(name, OTHER_COLOR)


def _finish(figure: "plotly.graph_objects.Figure", title: str) -> None:
    arrange(figure, height=400, hovermode="closest")
    figure.update_layout(title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 16}}, margin={"t": 90})
