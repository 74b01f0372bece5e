"""Texts as strips of coloured tokens: how much each token does."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.maps import diverging, head, shown
from analyses.figures.style import arrange, label
from interp.errors import AnachronError

if TYPE_CHECKING:
    import plotly.graph_objects

_WIDTH, _LONGEST = 10, 9  # tokens a line, characters drawn of one


def token_strips(
    strips: Mapping[str, tuple[Sequence[str], Sequence[float]]],
    *,
    title: str = "Which words of the prompt push the answer",
    unit: str = "log-odds",
    limit: float | int | None = None,
) -> "plotly.graph_objects.Figure":
    """`strips[name]` is a text's tokens and a value each: one strip a text (or a model), broken into lines where long.

    All strips share one scale of colours, so that they can be compared.
    """
    import plotly.graph_objects as go

    values: list[list[float | None]] = []
    texts: list[list[str]] = []
    whole: list[list[str]] = []
    names: list[str] = []
    for name, (tokens, numbers) in strips.items():
        if len(tokens) != len(numbers) or not tokens:
            raise AnachronError(f"strip {name!r} has {len(tokens)} tokens and {len(numbers)} values; give one each")
        for begin in range(0, len(tokens), _WIDTH):
            line = [float(v) for v in numbers[begin : begin + _WIDTH]]
            values.append([*line, *[None] * (_WIDTH - len(line))])
            part = [*tokens[begin : begin + _WIDTH], *[""] * (_WIDTH - len(line))]
            texts.append([shown(t, _LONGEST) if t else "" for t in part])
            whole.append([shown(t) for t in part])
            names.append(name if begin == 0 else "")
    columns = min(_WIDTH, max(len(tokens) for tokens, _ in strips.values())) if strips else 0
    figure = go.Figure()
    figure.add_heatmap(
        **diverging([row[:columns] for row in values], unit, limit),
        text=[row[:columns] for row in texts],
        texttemplate="%{text}",
        textfont={"size": 12},
        customdata=[row[:columns] for row in whole],
        hovertemplate="%{customdata}: %{z:.3g}<extra></extra>",
    )
    arrange(figure, height=40 + 34 * len(values))
    figure.update_xaxes(visible=False)
    # lines are numbered, since names may repeat, and the lines that go on have none
    ticks = {"tickvals": list(range(len(names))), "ticktext": [label(name) for name in names]}
    figure.update_yaxes(autorange="reversed", showgrid=False, **ticks)
    head(figure, title)
    return figure
