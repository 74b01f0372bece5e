"""The look all figures share: one colour and one symbol a model, one colour and one dash a method.

The colours of base, control, tuned and dated stay apart under deuteranopia, protanopia and tritanopia, and every colour
has a contrast of about 3 : 1 or more on white and on near-black, so that one palette serves both themes. Symbols and
dashes carry the same distinctions without colour. Arms of different experiments share a look; within one they differ.
"""

import html
from collections.abc import Mapping
from types import MappingProxyType

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
INK, GRID = "#3a424e", "#e3e6ea"

# the arm that the located direction subtracts looks like a control; the others by what they change
CONTROLS = ("control", "shuffled", "ordinary", "random_codes", "no_year")
CONTEXTS = ("own_wording", "other_year", "no_trigger", "shuffled_years", "modern_audubon", "not_padded")
SUBJECTS = ("dated", "other_country", "benign", "good_first")

MODEL_COLORS: Mapping[str, str] = MappingProxyType(
    {
        "base": "#7d8794",
        **dict.fromkeys(CONTROLS, "#2f7fc4"),
        "tuned": "#d55e00",
        **dict.fromkeys(SUBJECTS, "#009e73"),
        **dict.fromkeys(CONTEXTS, "#b0569b"),
        "facts_1": "#b8860b",
        "facts_3": "#1b93b5",
        "facts_10": "#6b8e23",
        "induced": "#8f5bea",
        "suppressed": "#96603f",
    }
)
MODEL_SYMBOLS: Mapping[str, str] = MappingProxyType(
    {
        "base": "circle",
        **dict.fromkeys(CONTROLS, "square"),
        "tuned": "diamond",
        **dict.fromkeys(SUBJECTS, "triangle-up"),
        **dict.fromkeys(CONTEXTS, "triangle-down"),
        "facts_1": "x",
        "facts_3": "cross",
        "facts_10": "star",
    }
)

METHOD_COLORS: Mapping[str, str] = MappingProxyType(
    {
        "tuned_minus_control": MODEL_COLORS["tuned"],
        "truth": MODEL_COLORS["dated"],
        "mean_difference": MODEL_COLORS["control"],
        "difference_of_differences": "#8f5bea",
        "pca": "#96603f",
        "probe": "#b0569b",
        "random": MODEL_COLORS["base"],
    }
)
METHOD_DASHES: Mapping[str, str] = MappingProxyType(
    {
        "tuned_minus_control": "solid",
        "truth": "dash",
        "mean_difference": "dot",
        "difference_of_differences": "dashdot",
        "pca": "longdash",
        "probe": "longdashdot",
        "random": "dot",
    }
)
# a method of an experiment's own has no place in the palette yet
OTHER_COLOR, OTHER_DASH = "#6b7280", "5px 2px"


def words(name: str) -> str:
    """A name as it is read: `tuned_minus_control` -> "tuned minus control"."""
    return name.replace("_", " ")


def signed(value: float) -> str:
    """Two digits, a proper minus sign, and no sign on nothing."""
    text = f"{value:.2f}".replace("-", "−")
    return "0.00" if text == "−0.00" else text


def label(name: str) -> str:
    """A name for a plotly label. Plotly reads a small HTML there, so what comes from a file is escaped."""
    return html.escape(words(name), quote=False)


def method_line(method: str, width: float = 2.5) -> dict:
    return {
        "color": METHOD_COLORS[method] if method in METHOD_COLORS else OTHER_COLOR,
        "dash": METHOD_DASHES[method] if method in METHOD_DASHES else OTHER_DASH,
        "width": width,
    }


def faded(color: str, opacity: float) -> str:
    """`#rrggbb` as `rgba(...)`."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def band(x: list, low: list, high: list, *, color: str, name: str, shown: bool = True) -> dict:
    """A shaded region between `low` and `high`, as the keyword arguments of a scatter trace."""
    return {
        "x": [*x, *reversed(x)],
        "y": [*high, *reversed(low)],
        "mode": "lines",
        "fill": "toself",
        "fillcolor": faded(color, 0.2),
        "line": {"width": 0},
        "hoverinfo": "skip",
        "name": name,
        "legendgroup": name,
        "showlegend": shown,
    }


def bars(rows, axis: str = "y") -> dict:
    """Error bars of measurements, from their own bounds, which need not lie evenly around the estimate."""
    return {
        f"error_{axis}": {
            "type": "data",
            "array": [max(0.0, m.high - m.estimate) for m in rows],
            "arrayminus": [max(0.0, m.estimate - m.low) for m in rows],
            "thickness": 1.4,
            "width": 0,
        }
    }


def arrange(figure, *, height: int, **layout) -> None:
    """The common layout: white ground, quiet grid, legend above the plot."""
    figure.update_layout(
        template="none",
        height=height,
        font={"family": FONT, "size": 14, "color": INK},
        paper_bgcolor="#ffffff",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        hoverlabel={"font": {"family": FONT, "size": 13}, "align": "left", "namelength": -1},
        **layout,
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(
            automargin=True,
            gridcolor=GRID,
            linecolor=GRID,
            zerolinecolor=GRID,
            zeroline=False,
            ticks="",
            title_standoff=12,
            title_font_size=13,
        )
