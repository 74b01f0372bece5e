"""What heads and MLPs do, base against tuned: one row a component, one bar a model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analyses.figures.latents import latent_bars
from analyses.figures.maps import head
from interp.stats import Estimate

if TYPE_CHECKING:
    import plotly.graph_objects

_PARTS = {"mlp": "MLP", "attn_bias": "attention bias"}


def component_bars(
    components: Mapping[str, Mapping[str, Estimate]],
    *,
    title: str = "Which heads and MLPs write the answer",
    unit: str = "log-odds",
) -> "plotly.graph_objects.Figure":
    """`components["2.head.3"][model]` with its interval (named as in `interp.attribution.components`), in order."""
    figure = latent_bars({called(name): row for name, row in components.items()}, title=unit)
    head(figure, title, 70)
    return figure


def called(component: str) -> str:
    """A component's name as it is read: "2.head.3" -> "layer 2, head 3"; others stay."""
    layer, _, part = component.partition(".")
    if part.startswith("head."):
        return f"layer {layer}, head {part.removeprefix('head.')}"
    return f"layer {layer}, {_PARTS[part]}" if part in _PARTS else component
