"""Cosines of all pairs of directions, a panel a layer: for a page, and as SVG text for a README."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from analyses.compare.cosines import matrix
from analyses.figures.headline import STYLE
from analyses.figures.style import arrange, label, signed

if TYPE_CHECKING:
    import plotly.graph_objects

CELL, LABELS, BELOW, TOP, GAP, COLUMNS = 46, 150, 110, 78, 34, 2
TITLE = "Cosines between directions of different experiments"
# -1, 0, 1; the ends and the middle stay apart under all common colour deficiencies
LOW, MIDDLE, HIGH = (33, 102, 172), (243, 244, 246), (178, 76, 12)


def heat_map(cosines: Mapping) -> "plotly.graph_objects.Figure":
    """One panel a layer, two in a row."""
    from plotly.subplots import make_subplots

    layers, names = cosines["layers"], [label(vector["name"]) for vector in cosines["vectors"]]
    columns = min(COLUMNS, len(layers))
    lines = -(-len(layers) // columns)
    figure = make_subplots(
        rows=lines,
        cols=columns,
        subplot_titles=[f"layer {layer}" for layer in layers],
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.12 / lines,
    )
    for i, layer in enumerate(layers):
        figure.add_heatmap(
            z=matrix(cosines, layer),
            x=names,
            y=names,
            coloraxis="coloraxis",
            texttemplate="%{z:.2f}",
            hovertemplate=f"%{{y}}<br>%{{x}}<br>layer {layer}: %{{z:.3f}}<extra></extra>",
            xgap=2,
            ygap=2,
            row=i // columns + 1,
            col=i % columns + 1,
        )
    arrange(figure, height=180 + lines * (30 + 40 * len(names)))
    scale = [[at, f"rgb{color}"] for at, color in ((0, LOW), (0.5, MIDDLE), (1, HIGH))]
    figure.update_layout(
        coloraxis={"cmin": -1, "cmax": 1, "colorscale": scale, "colorbar": {"title": {"text": "cosine"}}},
        margin={"t": 36},
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False, tickangle=-40)
    return figure


def cosines_svg(cosines: Mapping) -> str:
    """The same as SVG text, every cell with its number."""
    layers, names = cosines["layers"], [vector["name"] for vector in cosines["vectors"]]
    columns = min(COLUMNS, len(layers))
    side = CELL * len(names)
    panel, lines = LABELS + side + GAP, -(-len(layers) // columns)
    width, height = 28 + columns * panel, TOP + lines * (side + BELOW + GAP)
    band = cosines["random"]["abs_cosine"]
    note = f"Model {cosines['model']}; 95 % of pairs of random directions lie within ±{band:.2f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(TITLE)}</title>',
        f'<desc id="description">{escape(note)}</desc>',
        f"<style>{STYLE}\n.cell {{ font-size: 12.5px; font-variant-numeric: tabular-nums }}\n</style>",
        f'<rect class="ground" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="12"/>',
        f'<text class="title" x="28" y="38">{escape(TITLE)}</text>',
        f'<text class="note quiet" x="28" y="60">{escape(note)}</text>',
    ]
    for i, layer in enumerate(layers):
        x, y = 28 + LABELS + (i % columns) * panel, TOP + 20 + (i // columns) * (side + BELOW + GAP)
        parts += _panel(f"layer {layer}", names, matrix(cosines, layer), x, y)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(title: str, names: Sequence[str], values: Sequence[Sequence[float]], x: int, y: int) -> list[str]:
    parts = [f'<text class="name" x="{x}" y="{y - 8}">{escape(title)}</text>']
    below = y + CELL * len(names) + 14
    for i, (name, row) in enumerate(zip(names, values, strict=True)):
        middle = CELL * i + CELL // 2
        parts.append(f'<text class="note" x="{x - 8}" y="{y + middle + 4}" text-anchor="end">{escape(name)}</text>')
        turned = f'transform="rotate(-40 {x + middle} {below})"'
        parts.append(
            f'<text class="note" x="{x + middle}" y="{below}" text-anchor="end" {turned}>{escape(name)}</text>'
        )
        for k, value in enumerate(row):
            ink = "#ffffff" if abs(value) > 0.7 else "#1c222b"
            parts.append(
                f'<rect x="{x + CELL * k + 1}" y="{y + CELL * i + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="4" '
                f'fill="{_shade(value)}"/>'
            )
            parts.append(
                f'<text class="cell" x="{x + CELL * k + CELL // 2}" y="{y + middle + 4}" text-anchor="middle" '
                f'style="fill: {ink}">{signed(value)}</text>'
            )
    return parts


def _shade(value: float) -> str:
    end = HIGH if value >= 0 else LOW
    part = min(abs(value), 1.0)
    return "#" + "".join(f"{round(m + part * (e - m)):02x}" for m, e in zip(MIDDLE, end, strict=True))
