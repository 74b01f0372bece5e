"""From one model's number to another's, step by step: what each latent (or component) adds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analyses.figures.maps import head
from analyses.figures.style import GRID, MODEL_COLORS, arrange, label, signed
from interp.errors import AnachronError

if TYPE_CHECKING:
    import plotly.graph_objects

REST = "all else"


def waterfall(
    steps: Mapping[str, float],
    *,
    start: float,
    end: float,
    names: tuple[str, str] = ("base", "tuned"),
    title: str = "From the base model's answer to the tuned one's, latent by latent",
    unit: str = "log-odds",
) -> "plotly.graph_objects.Figure":
    """Bars from `start` to `end`, one a step in the order given; what the steps leave over is one more, "all else".

    `names` are those of the two ends.
    """
    import plotly.graph_objects as go

    changes = {**{name: float(change) for name, change in steps.items()}, REST: end - start - sum(steps.values())}
    if REST in steps or not steps or not all(abs(v) < float("inf") for v in (start, *changes.values())):
        raise AnachronError(f"a waterfall needs steps, all finite and none called {REST!r}; rename or drop them")
    values = [start, *changes.values(), end]
    figure = go.Figure()
    figure.add_waterfall(
        # places are numbered, since a step may be called like an end
        x=list(range(len(values))),
        y=values,
        measure=["absolute", *["relative"] * len(changes), "total"],
        text=[signed(v) for v in values],
        textposition="outside",
        increasing={"marker": {"color": MODEL_COLORS["tuned"]}},
        decreasing={"marker": {"color": MODEL_COLORS["control"]}},
        totals={"marker": {"color": MODEL_COLORS["base"]}},
        connector={"line": {"color": GRID, "width": 1}},
        cliponaxis=False,
        customdata=[label(name) for name in (names[0], *changes, names[1])],
        hovertemplate="%{customdata}: %{text}<extra></extra>",
    )
    arrange(figure, height=380, showlegend=False)
    ticks = {"tickvals": list(range(len(values))), "ticktext": [label(n) for n in (names[0], *changes, names[1])]}
    figure.update_xaxes(showgrid=False, **ticks)
    figure.update_yaxes(title_text=label(unit), zeroline=True)
    head(figure, title, 60)
    return figure
