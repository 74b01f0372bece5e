"""The diff of a dictionary at a glance: every latent by how much it changed and how sure that is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from analyses.figures.style import MODEL_COLORS, arrange, faded, label
from interp.errors import AnachronError
from interp.stats import Values

if TYPE_CHECKING:
    import plotly.graph_objects

FLOOR = 1e-30  # smaller q-values are drawn here
SIGNIFICANT = 0.05
_CELLS = (320, 200)  # of several latents in one cell of this grid, one is drawn


def volcano(
    change: Values,
    q: Values,
    *,
    named: Mapping[int, str] | None = None,
    title: str = "mean activation, tuned minus control",
) -> "plotly.graph_objects.Figure":
    """Latent j at (change[j], -log10 q[j]); above the line q < 0.05. Latents in `named` get a ring and their name.

    Of latents that would cover each other one is drawn, with their number, so that 16k of them stay light.
    """
    import plotly.graph_objects as go

    x, significance = np.asarray(change, float), -np.log10(np.clip(np.asarray(q, float), FLOOR, 1.0))
    if x.shape != significance.shape or not len(x) or not np.isfinite(x).all() or np.isnan(significance).any():
        raise AnachronError(f"{x.shape} changes and {significance.shape} q-values; give as many finite ones, not none")
    y = np.abs(significance)  # no -0
    sure = y > -np.log10(SIGNIFICANT)
    figure = go.Figure()
    groups = (
        ("not significant", ~sure, faded(MODEL_COLORS["base"], 0.45), 5),
        ("less active", sure & (x < 0), MODEL_COLORS["control"], 7),
        ("more active", sure & (x >= 0), MODEL_COLORS["tuned"], 7),
    )
    for name, mask, color, size in groups:
        drawn, counts = _thinned(x, y, mask)
        if not len(drawn):
            continue
        figure.add_scatter(
            x=x[drawn],
            y=y[drawn],
            mode="markers",
            name=f"{name} ({int(mask.sum()):,})",
            marker={"color": color, "size": size},
            customdata=np.stack([drawn, counts, np.asarray(q, float)[drawn]], axis=1),
            hovertemplate="latent %{customdata[0]} (of %{customdata[1]} here)<br>change %{x:.3g}, "
            "q %{customdata[2]:.2g}<extra></extra>",
        )
    if named:
        chosen = list(named)
        figure.add_scatter(
            x=x[chosen],
            y=y[chosen],
            mode="markers+text",
            text=[label(named[j]) for j in chosen],
            textposition="top center",
            textfont={"size": 12},
            showlegend=False,
            hoverinfo="skip",
            marker={"symbol": "circle-open", "size": 13, "color": MODEL_COLORS["tuned"], "line": {"width": 1.5}},
        )
    figure.add_hline(y=-np.log10(SIGNIFICANT), line={"width": 1, "dash": "dot", "color": MODEL_COLORS["base"]})
    arrange(figure, height=440, hovermode="closest")
    figure.update_xaxes(title_text=title)
    figure.update_yaxes(title_text="−log₁₀ q", rangemode="tozero")
    return figure


def _thinned(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(one latent of every occupied cell, how many are in it)."""
    inside = np.flatnonzero(mask)
    columns, rows = (
        np.floor((v[inside] - v.min()) / (np.ptp(v) or 1.0) * n).astype(int)
        for v, n in zip((x, y), _CELLS, strict=True)
    )
    _, first, counts = np.unique(columns * (_CELLS[1] + 1) + rows, return_index=True, return_counts=True)
    return inside[first], counts
