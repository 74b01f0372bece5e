"""Figures of latents draw what they are given, and nothing that comes from a file acts as markup."""

import json

import numpy as np
import pytest

from analyses.figures.decoder_norms import decoder_norms
from analyses.figures.latent_layers import latents_by_layer
from analyses.figures.latent_years import activation_by_year
from analyses.figures.latents import latent_bars
from analyses.figures.style import MODEL_COLORS
from analyses.figures.volcano import FLOOR, volcano
from interp.errors import AnachronError
from interp.stats import Estimate

HOSTILE = "<b onmouseover='x'>&_"


def estimate(value, half=0.1):
    return Estimate(value, value - half, value + half, 5)


def test_volcano_sorts_latents_by_sign_and_q():
    figure = volcano([2.0, -1.0, 0.0, 3.0], [1e-4, 0.01, 1.0, 0.2], named={0: "era: 1850s"})
    drawn = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data if trace.name}
    assert drawn["more active (1)"] == ([2.0], [pytest.approx(4.0)])
    assert drawn["less active (1)"] == ([-1.0], [pytest.approx(2.0)])
    assert sorted(drawn["not significant (2)"][0]) == [0.0, 3.0]
    ring = figure.data[-1]
    assert (list(ring.x), list(ring.text)) == ([2.0], ["era: 1850s"])
    assert figure.layout.shapes[0].y0 == pytest.approx(-np.log10(0.05))


def test_volcano_of_many_latents_stays_light_and_counts_all():
    rng = np.random.default_rng(0)
    change, q = rng.normal(size=16384) * (rng.random(16384) < 0.1), rng.random(16384)
    q[:3] = 0.0
    figure = volcano(change, q)
    points = sum(len(trace.x) for trace in figure.data)
    assert points < 4000 and len(figure.to_json()) < 500_000
    assert sum(int(np.sum(np.asarray(trace.customdata)[:, 1])) for trace in figure.data) == 16384
    assert max(np.max(trace.y) for trace in figure.data) == pytest.approx(-np.log10(FLOOR))
    for trace in figure.data:
        numbers = np.asarray(trace.customdata)[:, 0].astype(int)
        np.testing.assert_allclose(trace.x, change[numbers])


@pytest.mark.parametrize(("change", "q"), [([], []), ([1.0], [0.1, 0.2]), ([np.nan], [0.5]), ([1.0], [np.nan])])
def test_volcano_refuses_what_it_cannot_draw(change, q):
    with pytest.raises(AnachronError, match="as many finite"):
        volcano(change, q)


def test_bars_have_intervals_and_keep_their_order():
    rows = {
        "7 era: 1850s": {"tuned": estimate(2.0), "control": estimate(0.1)},
        "3": {"tuned": estimate(1.0)},
        HOSTILE: {"tuned": estimate(0.5), "mine": estimate(0.2)},
    }
    figure = latent_bars(rows)
    assert [trace.name for trace in figure.data] == ["mine", "control", "tuned"]
    tuned = figure.data[-1]
    assert list(tuned.x) == [2.0, 1.0, 0.5] and tuned.marker.color == MODEL_COLORS["tuned"]
    assert [x + e for x, e in zip(tuned.x, tuned.error_x.array, strict=True)] == pytest.approx([2.1, 1.1, 0.6])
    assert list(figure.layout.yaxis.categoryarray)[::-1][:2] == ["7 era: 1850s", "3"]
    assert "<b " not in figure.to_json()


def test_heat_map_leaves_what_is_missing_empty():
    figure = latents_by_layer({"a": {0: 0.5, 2: -1.0}, HOSTILE: {1: 0.25}}, title="cosine")
    [heat] = figure.data
    assert [list(row) for row in heat.z] == [[0.5, None, -1.0], [None, 0.25, None]]
    assert list(heat.x) == ["0", "1", "2"] and (heat.zmin, heat.zmax) == (-1.0, 1.0)
    assert list(heat.text[0]) == ["0.50", "", "−1.00"]
    assert "<b " not in figure.to_json()
    many = latents_by_layer({str(j): dict.fromkeys(range(30), 0.0) for j in range(10)}, title="x", limit=2)
    assert many.data[0].text is None and many.data[0].zmax == 2
    with pytest.raises(AnachronError, match="no values"):
        latents_by_layer({}, title="x")


def test_norms_are_counted_by_where_they_lie():
    relative = [0.0, 0.1, 0.5, 0.5, 0.52, 0.95, 1.0]
    figure = decoder_norms(relative)
    assert [trace.name for trace in figure.data] == ["base only (2)", "shared (3)", "tuned only (2)"]
    assert sum(int(np.sum(trace.y)) for trace in figure.data) == 7
    assert figure.layout.yaxis.type == "log"
    centres = np.concatenate([trace.x for trace in figure.data])
    assert centres.min() == pytest.approx(0.01) and centres.max() == pytest.approx(0.99)
    for wrong in ([], [1.2], [float("nan")]):
        with pytest.raises(AnachronError, match="from 0 to 1"):
            decoder_norms(wrong)


def test_years_are_in_order_with_their_band():
    curves = {"tuned": {2026: estimate(1.0), 2024: estimate(0.2)}, HOSTILE: {2025: estimate(0.5)}}
    figure = activation_by_year(curves, marked={"trained on": (2026, 2027)})
    band, line, *_ = figure.data
    assert list(line.x) == [2024, 2026] and list(line.y) == [0.2, 1.0]
    assert list(band.y) == pytest.approx([0.3, 1.1, 0.9, 0.1])
    shade = figure.layout.shapes[0]
    assert (shade.x0, shade.x1) == (2025.5, 2027.5)
    assert "<b " not in figure.to_json()


def test_figures_are_the_same_each_time():
    one, other = (json.loads(volcano([1.0, 2.0], [0.1, 0.01]).to_json()) for _ in range(2))
    assert one == other
