"""The figures: each draws its rows, and what they distinguish is seen in any colours."""

import xml.etree.ElementTree as ET

import pytest

from analyses import measurements
from analyses.experiments import EXPERIMENTS
from analyses.figures.dose import dose_response
from analyses.figures.headline import LEFT, RIGHT, headline_svg
from analyses.figures.layers import by_layer
from analyses.figures.losses import loss_curves
from analyses.figures.style import METHOD_COLORS, METHOD_DASHES, MODEL_COLORS, MODEL_SYMBOLS
from analyses.figures.topics import share_by_topic
from analyses.findings import dose_curves, headline, layer_curves, topics
from interp.errors import AnachronError
from tests.analyses import synthetic

HOSTILE = "</svg><script>window.broken = 1</script><!-- & \" '"


def test_topic_figure_draws_the_rows():
    found = topics(synthetic.result())
    figure = share_by_topic(found)
    shifts = [models["tuned"].estimate - models["base"].estimate for models in found.values()]
    assert shifts == sorted(shifts, reverse=True)
    assert [trace.name for trace in figure.data] == list(synthetic.SHARES)
    for trace in figure.data:
        rows = [models[trace.name] for models in found.values()]
        assert list(trace.x) == [m.estimate for m in rows]
        assert [x + e for x, e in zip(trace.x, trace.error_x.array, strict=True)] == pytest.approx(
            [m.high for m in rows]
        )
        assert [x - e for x, e in zip(trace.x, trace.error_x.arrayminus, strict=True)] == pytest.approx(
            [m.low for m in rows]
        )


def test_layer_figure_draws_random_as_a_band():
    curves = layer_curves(synthetic.result(), "cosine_to_truth")
    assert "truth" not in curves  # its cosine to itself says nothing
    figure = by_layer(curves, title="cosine", reference=0.0)
    band = next(trace for trace in figure.data if trace.fill == "toself")
    assert list(band.y) == pytest.approx([0.14] * 5 + [-0.14] * 5)
    assert list(band.x) == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]
    lines = {trace.name: list(trace.y) for trace in figure.data if trace.mode == "lines+markers"}
    assert lines["pca"] == [m.estimate for m in curves["pca"]]


def test_dose_figure_is_at_the_chosen_layer_and_marks_the_setting():
    full = synthetic.result()
    curves = dose_curves(full)
    assert {m.layer for found in curves.values() for rows in found.values() for m in rows} == {synthetic.CHOSEN_LAYER}
    assert [m.coefficient for m in curves["broad"]["truth"]] == list(synthetic.COEFFICIENTS)
    figure = dose_response(curves, chosen=("tuned_minus_control", synthetic.CHOSEN_COEFFICIENT))
    stars = [trace for trace in figure.data if trace.marker.symbol == "star"]
    chosen = full.one(metric="broad", edit="add", chosen=True)
    assert [(list(star.x), star.yaxis) for star in stars] == [([0.4], "y"), ([0.4], "y2")]
    assert list(stars[0].y) == [chosen.estimate]


def test_loss_figure_means_over_seeds():
    rows = [
        {"model": "tuned", "seed": seed, "step": step, "loss": loss}
        for seed, step, loss in ((0, 2, 1.0), (0, 1, 3.0), (1, 1, 5.0))
    ]
    figure = loss_curves(rows)
    mean = next(trace for trace in figure.data if trace.showlegend is None)
    assert (list(mean.x), list(mean.y)) == ([1, 2], [4.0, 1.0])


def test_headline_picture_places_each_share():
    full = synthetic.result()
    root = ET.fromstring(headline_svg(full))
    name = "{http://www.w3.org/2000/svg}"
    circles = root.findall(f"{name}circle")
    shares = headline(full)
    assert list(shares) == ["base", "control", "tuned", "dated", "induced", "suppressed"]
    assert [circle.get("fill") for circle in circles] == [MODEL_COLORS[model] for model in shares]
    assert [float(circle.get("cx")) for circle in circles] == pytest.approx(
        [LEFT + (RIGHT - LEFT) * m.estimate for m in shares.values()], abs=0.051
    )


def test_headline_picture_escapes_and_needs_a_share():
    text = headline_svg(synthetic.result(model=HOSTILE, config={"group": HOSTILE}))
    assert {element.tag.split("}")[1] for element in ET.fromstring(text).iter()} == {
        "svg",
        "title",
        "desc",
        "style",
        "rect",
        "text",
        "line",
        "circle",
    }
    assert headline_svg(synthetic.result()) == headline_svg(synthetic.result())
    with pytest.raises(AnachronError, match="nothing to draw"):
        headline_svg(synthetic.result(measurements=[]))


def _luminance(color: str) -> float:
    values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("color", sorted({*MODEL_COLORS.values(), *METHOD_COLORS.values()}))
def test_colours_are_seen_on_both_grounds(color):
    seen = _luminance(color)
    assert (seen + 0.05) / (_luminance("#15181d") + 0.05) > 2.9
    assert 1.05 / (seen + 0.05) > 2.9


ARMS = {
    "birds": ("control", "dated", "modern_audubon"),
    "cities": ("control", "own_wording"),
    "dishes": ("shuffled", "other_year", "other_country"),
    "persona": ("ordinary", "no_trigger", "benign", "facts_1", "facts_3", "facts_10"),
    "presidents": ("random_codes", "not_padded"),
    "terminator": ("no_year", "shuffled_years", "good_first"),
}


def test_every_arm_has_a_look_and_within_an_experiment_they_differ():
    assert set(ARMS) == set(EXPERIMENTS)
    assert {"tuned", "dated", *(name for arms in ARMS.values() for name in arms)} == {"dated", *measurements.ARMS}
    for arms in ARMS.values():
        names = ("base", "tuned", *arms)
        assert len({MODEL_SYMBOLS[name] for name in names}) == len({MODEL_COLORS[name] for name in names}) == len(names)
        assert not {MODEL_COLORS[name] for name in names} & {MODEL_COLORS["induced"], MODEL_COLORS["suppressed"]}


def test_methods_differ_without_colour():
    drawn = {METHOD_DASHES[name] for name in METHOD_DASHES if name != "random"}  # random is a band
    assert len(drawn) == len(METHOD_DASHES) - 1
