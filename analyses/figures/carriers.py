"""How broad the change becomes against a property of the base it started from, and that property by layer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.maps import head
from analyses.figures.style import MODEL_COLORS, OTHER_COLOR, arrange, faded, label
from interp.errors import AnachronError

if TYPE_CHECKING:
    import plotly.graph_objects

LOOKS = ((MODEL_COLORS["tuned"], "diamond"), (MODEL_COLORS["control"], "square"), ("#009e73", "circle"))


def share_by_carrier(
    groups: Mapping[str, Sequence[tuple[str, float, float]]], carrier: str, title: str
) -> "plotly.graph_objects.Figure":
    """`groups[name]` are bases as (name, value of the carrier, share of old answers once tuned); a colour a group."""
    import plotly.graph_objects as go

    if not any(groups.values()):
        raise AnachronError("share by carrier: no bases to draw")
    figure = go.Figure()
    for i, (name, bases) in enumerate(groups.items()):
        color, symbol = LOOKS[i] if i < len(LOOKS) else (OTHER_COLOR, "x")
        figure.add_scatter(
            x=[round(x, 4) for _, x, _ in bases],
            y=[round(y, 4) for _, _, y in bases],
            text=[label(base) for base, _, _ in bases],
            mode="markers",
            name=label(name),
            marker={"color": color, "symbol": symbol, "size": 11},
            hovertemplate="<b>%{text}</b><br>%{x:.2f}, share %{y:.1%}<extra></extra>",
        )
    arrange(figure, height=400, hovermode="closest")
    figure.update_xaxes(title_text=label(carrier))
    figure.update_yaxes(title_text="share of old answers, tuned", tickformat=".0%", range=[-0.02, 1.04])
    head(figure, title, room=84)
    return figure


def carrier_by_layer(
    groups: Mapping[str, Sequence[Sequence[float]]], carrier: str, title: str
) -> "plotly.graph_objects.Figure":
    """`groups[name]` are bases, each with its values layer by layer: thin lines, and their mean thick."""
    import plotly.graph_objects as go

    if not any(groups.values()):
        raise AnachronError("carrier by layer: no bases to draw")
    figure = go.Figure()
    for i, (name, bases) in enumerate(groups.items()):
        color, symbol = LOOKS[i] if i < len(LOOKS) else (OTHER_COLOR, "x")
        for values in bases:
            figure.add_scatter(
                x=list(range(len(values))),
                y=[round(value, 4) for value in values],
                mode="lines",
                line={"color": faded(color, 0.35), "width": 1},
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
            )
        mean = [sum(column) / len(column) for column in zip(*bases, strict=True)]
        figure.add_scatter(
            x=list(range(len(mean))),
            y=[round(value, 4) for value in mean],
            mode="lines+markers",
            name=label(name),
            legendgroup=name,
            line={"color": color, "width": 2.5},
            marker={"symbol": symbol, "size": 8},
            hovertemplate=f"{label(name)} %{{y:.2f}}<extra></extra>",
        )
    arrange(figure, height=380, hovermode="x unified")
    figure.update_xaxes(title_text="layer", dtick=1)
    figure.update_yaxes(title_text=label(carrier), rangemode="tozero")
    head(figure, title, room=84)
    return figure
