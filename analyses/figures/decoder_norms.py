"""Relative decoder norms of a crosscoder: which latents write in the base model, the tuned one, or both."""

from typing import TYPE_CHECKING

import numpy as np

from analyses.figures.style import MODEL_COLORS, arrange
from interp.errors import AnachronError
from interp.stats import Values

if TYPE_CHECKING:
    import plotly.graph_objects

BINS = 50


def decoder_norms(
    relative: Values, *, base_only: float = 0.1, tuned_only: float = 0.9
) -> "plotly.graph_objects.Figure":
    """Histogram of r = ((|d_tuned| - |d_base|) / max + 1) / 2 over latents, 0 base-only, .5 equal, 1 tuned-only.

    Latents up to `base_only` and from `tuned_only` are counted in the legend. Counts are on a logarithmic axis: the few
    at the ends are what is looked for.
    """
    import plotly.graph_objects as go

    r = np.asarray(relative, float)
    if not len(r) or not ((r >= 0) & (r <= 1)).all():
        raise AnachronError(f"{len(r)} relative norms; give at least one, each from 0 to 1")
    edges = np.linspace(0, 1, BINS + 1)
    groups = (
        ("base only", r <= base_only, MODEL_COLORS["control"]),
        ("shared", (r > base_only) & (r < tuned_only), MODEL_COLORS["base"]),
        ("tuned only", r >= tuned_only, MODEL_COLORS["tuned"]),
    )
    figure = go.Figure()
    for name, mask, color in groups:
        counts, _ = np.histogram(r[mask], bins=edges)
        kept = counts > 0
        figure.add_bar(
            x=((edges[:-1] + edges[1:]) / 2)[kept],
            y=counts[kept],
            width=0.9 / BINS,
            name=f"{name} ({int(mask.sum()):,})",
            marker={"color": color},
            customdata=np.stack([edges[:-1], edges[1:]], axis=1)[kept],
            hovertemplate="%{customdata[0]:.2f} to %{customdata[1]:.2f}: %{y} latents<extra></extra>",
        )
    arrange(figure, height=360, barmode="stack", hovermode="closest")
    figure.update_xaxes(title_text="relative norm of the decoder rows", range=[-0.02, 1.02])
    figure.update_yaxes(title_text="latents", type="log", rangemode="tozero", dtick=1)
    return figure
