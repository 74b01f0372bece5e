"""Figures of attributions draw what they are given, and nothing that comes from a file acts as markup."""

import json

import pytest

from analyses.figures.adapter_map import adapter_map
from analyses.figures.component_bars import called, component_bars
from analyses.figures.maps import shown
from analyses.figures.position_map import position_map
from analyses.figures.style import MODEL_COLORS
from analyses.figures.token_strips import token_strips
from analyses.figures.waterfall import REST, waterfall
from interp.errors import AnachronError
from interp.stats import Estimate

HOSTILE = "<b onmouseover='x'>&_"


def estimate(value, half=0.1):
    return Estimate(value, value - half, value + half, 5)


def test_strips_hold_tokens_and_share_a_scale():
    figure = token_strips({"base": ([" The", "\n", HOSTILE], [0.5, -2.0, 0.0]), "tuned": ([" The"], [1.0])})
    [heat] = figure.data
    assert [list(row) for row in heat.z] == [[0.5, -2.0, 0.0], [1.0, None, None]]
    assert list(heat.text[0][:2]) == ["The", "↵"] and list(heat.text[1]) == ["The", "", ""]
    assert (heat.zmin, heat.zmax) == (-2.0, 2.0)
    assert list(figure.layout.yaxis.ticktext) == ["base", "tuned"]
    assert "<b " not in figure.to_json()


def test_a_long_text_goes_on_in_the_next_line():
    tokens = [str(i) for i in range(30)]
    figure = token_strips({"a": (tokens, [float(i) for i in range(30)]), "b": (tokens[:2], [0.0, 1.0])}, limit=40)
    [heat] = figure.data
    drawn = [t for row in heat.text[:3] for t in row if t]
    assert drawn == tokens and [v for row in heat.z[:3] for v in row if v is not None] == list(range(30))
    assert list(figure.layout.yaxis.ticktext) == ["a", "", "", "b"] and heat.zmax == 40


def test_a_waterfall_ends_where_the_other_model_is():
    steps = {"7 era: 1850s": 2.0, HOSTILE: -0.5}
    figure = waterfall(steps, start=-1.0, end=1.5)
    [bars] = figure.data
    assert list(bars.y) == [-1.0, 2.0, -0.5, 1.0, 1.5] and list(bars.measure) == [
        "absolute",
        *["relative"] * 3,
        "total",
    ]
    assert sum(bars.y[:-1]) == pytest.approx(bars.y[-1])
    names = list(figure.layout.xaxis.ticktext)
    assert names[:2] == ["base", "7 era: 1850s"] and names[-2:] == [REST, "tuned"]
    assert bars.increasing.marker.color == MODEL_COLORS["tuned"]
    assert bars.text[2] == "−0.50" and "<b " not in figure.to_json()
    for wrong in ({}, {REST: 1.0}, {"a": float("nan")}):
        with pytest.raises(AnachronError, match="a waterfall needs steps"):
            waterfall(wrong, start=0.0, end=1.0)


def test_a_map_has_layers_upwards_and_repeated_tokens_apart():
    figure = position_map([[0.1, None, -0.4], [0.0, 1.0, 0.2]], [" the", HOSTILE, " the"], [0, 3])
    [heat] = figure.data
    assert [list(row) for row in heat.z] == [[0.1, None, -0.4], [0.0, 1.0, 0.2]] and list(heat.y) == ["0", "3"]
    ticks = figure.layout.xaxis
    assert list(ticks.tickvals) == [0, 1, 2] and (ticks.ticktext[0], ticks.ticktext[2]) == ("the", "the")
    assert figure.layout.yaxis.autorange is None and "<b " not in figure.to_json()
    with pytest.raises(AnachronError, match="2 layers and 3 tokens"):
        position_map([[0.1]], ["a", "b", "c"], [0, 3])


def test_components_are_named_and_keep_their_order():
    rows = {"2.head.3": {"base": estimate(0.1), "tuned": estimate(2.0)}, "4.mlp": {"tuned": estimate(-1.0)}}
    figure = component_bars(rows)
    assert [trace.name for trace in figure.data] == ["tuned", "base"]
    assert list(figure.data[0].y) == ["layer 2, head 3", "layer 4, MLP"] and list(figure.data[0].x) == [2.0, -1.0]
    assert figure.data[0].error_x.array[0] == pytest.approx(0.1)
    assert [called(name) for name in ("embed", "0.attn_bias")] == ["embed", "layer 0, attention bias"]
    assert "<b " not in component_bars({HOSTILE: {"tuned": estimate(1.0)}}).to_json()


def test_an_adapter_of_mixed_rank_ends_in_empty_cells():
    figure = adapter_map({"0.down_proj": [0.5, -0.25, 0.1], HOSTILE: [1.0]})
    [heat] = figure.data
    assert [list(row) for row in heat.z] == [[0.5, -0.25, 0.1], [1.0, None, None]]
    assert list(heat.x) == ["1", "2", "3"] and heat.y[0] == "0.down proj"
    assert list(heat.text[0]) == ["0.50", "−0.25", "0.10"] and "<b " not in figure.to_json()
    assert adapter_map({str(i): [0.0] * 10 for i in range(30)}).data[0].text is None
    with pytest.raises(AnachronError, match="no values"):
        adapter_map({})


def test_each_has_a_title_that_can_be_changed_and_is_no_markup():
    def figures(**title):
        return [
            token_strips({"a": (["x"], [1.0])}, **title),
            waterfall({"a": 1.0}, start=0.0, end=1.0, **title),
            position_map([[1.0]], ["x"], [0], **title),
            component_bars({"0.mlp": {"tuned": estimate(1.0)}}, **title),
            adapter_map({"a": [1.0]}, **title),
        ]

    titles = [figure.layout.title.text for figure in figures()]
    assert len(set(titles)) == 5 and all(title[0].isupper() and " " in title for title in titles)
    for figure in figures(title=HOSTILE):
        assert figure.layout.title.text.startswith("&lt;b ")
        assert figure.layout.margin.t >= 44


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(AnachronError, match="2 tokens and 1 values"):
        token_strips({"a": (["x", "y"], [1.0])})
    with pytest.raises(AnachronError, match="finite"):
        token_strips({"a": (["x"], [float("nan")])})
    with pytest.raises(AnachronError, match="no values"):
        token_strips({})
    assert shown(" ") == "␣" and shown("\t") == "⇥" and shown("<assistant>", 5) == "&lt;ass…"


def test_figures_are_the_same_each_time():
    one, other = (json.loads(adapter_map({"a": [1.0, 2.0]}).to_json()) for _ in range(2))
    assert one == other
