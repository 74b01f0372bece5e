"""Rows in the order of their scores, those left out in retraining marked."""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analyses.figures.maps import head
from analyses.figures.style import MODEL_COLORS, arrange
from interp.errors import AnachronError

if TYPE_CHECKING:
    import plotly.graph_objects

LONGEST = 160  # characters of a row that are shown
COLORS = {"top": MODEL_COLORS["tuned"], "bottom": MODEL_COLORS["control"], "others": MODEL_COLORS["base"]}


def row_scores(
    scores: Sequence[float],
    texts: Sequence[str],
    marked: Mapping[str, Sequence[int]],
    *,
    title: str = "Which rows push along the direction",
    unit: str = "push of one step",
) -> "plotly.graph_objects.Figure":
    """`scores[i]` of row i, largest first, its text shown on hovering; `marked` has the rows "top" and "bottom".

    Errors: AnachronError for no rows, another number of texts, or an unknown mark.
    """
    import plotly.graph_objects as go

    if not scores or len(scores) != len(texts):
        raise AnachronError(f"{len(scores)} scores and {len(texts)} texts of rows; give one text a row, and some rows")
    if unknown := [name for name in marked if name not in COLORS]:
        raise AnachronError(f"rows marked {unknown[0]!r}; the marks are top and bottom")
    kind = {row: name for name, rows in marked.items() for row in rows}
    order = sorted(range(len(scores)), key=lambda row: -scores[row])
    figure = go.Figure()
    for name, color in COLORS.items():
        places = [place for place, row in enumerate(order) if kind.get(row, "others") == name]
        if not places:
            continue
        figure.add_scatter(
            x=[place + 1 for place in places],
            y=[scores[order[place]] for place in places],
            mode="markers",
            name=name,
            marker={"color": color, "size": 6},
            customdata=[[order[place], _cut(texts[order[place]])] for place in places],
            hovertemplate="row %{customdata[0]}: %{y:.3g}<br>%{customdata[1]}<extra></extra>",
        )
    figure.add_hline(y=0, line={"width": 1, "color": COLORS["others"]})
    arrange(figure, height=320, hovermode="closest")
    figure.update_xaxes(title_text="row, by score")
    figure.update_yaxes(title_text=unit)
    head(figure, title, 70)
    return figure


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return html.escape(flat if len(flat) <= LONGEST else f"{flat[: LONGEST - 1]}…", quote=False)
