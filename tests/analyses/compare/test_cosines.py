"""Directions of different experiments beside one another."""

import numpy as np
import pytest
import torch

from analyses.compare.cosines import FAMILIES, FILE, KINDS, by_pair, compare, matrix, means, random_band
from analyses.figures.cosines import cosines_svg, heat_map
from analyses.figures.style import signed
from interp.errors import AnachronError
from interp.files import save_tensors
from tests.analyses import synthetic

METHODS = {"birds": "tuned_minus_control"}


def save(folder, name: str, *, layers=(0, 1), size: int = 8, method: str = "difference_of_differences") -> None:
    """Era directions along the first axis, personas along the second; found ones halfway to an axis of their own."""
    family, own = (0 if FAMILIES[name] == "era" else 1), 2 + list(FAMILIES).index(name)
    true, found = torch.zeros(size), torch.zeros(size)
    true[family] = 1.0
    found[[family, own]] = 0.5**0.5
    tensors = {f"{what}.{layer}": v.clone() for layer in layers for what, v in ((method, found), ("truth", true))}
    save_tensors(folder / FILE, tensors, {"method": method})


@pytest.fixture
def runs(tmp_path):
    for name in FAMILIES:
        save(tmp_path / name, name, method=METHODS.get(name, "difference_of_differences"))
    return {name: (tmp_path / name, synthetic.result()) for name in FAMILIES}


def test_all_pairs_at_every_layer(runs):
    cosines, left_out = compare(runs)
    assert left_out == [] and cosines["layers"] == [0, 1] and len(cosines["vectors"]) == 8
    assert len(cosines["cosines"]) == 28 * 2
    pairs = by_pair(cosines)
    at = {(a, b): layers[1] for (_, a, b), layers in pairs.items()}
    assert at["birds, found", "birds, true"] == pytest.approx(0.5**0.5)
    assert at["birds, true", "cities, true"] == pytest.approx(1)
    assert at["birds, found", "cities, found"] == pytest.approx(0.5)
    assert at["cities, found", "persona, true"] == pytest.approx(0)
    assert [kind for kind, _, _ in pairs] == [KINDS[0]] * 4 + [KINDS[1]] * 8 + [KINDS[2]] * 16
    assert means(cosines)[KINDS[2]] == pytest.approx({0: 0, 1: 0})
    square = np.array(matrix(cosines, 0))
    assert np.allclose(square, square.T) and np.allclose(np.diag(square), 1)


def test_only_layers_that_all_have(runs, tmp_path):
    save(tmp_path / "cities", "cities", layers=(1, 2))
    assert compare(runs)[0]["layers"] == [1]


def test_what_is_missing_is_said(runs, tmp_path):
    (tmp_path / "cities" / FILE).unlink()
    cosines, left_out = compare(runs)
    assert len(cosines["vectors"]) == 6
    assert left_out == [f"cities: no {FILE}; run it again"]
    assert compare({"dishes": (tmp_path, synthetic.result())}) == (None, [])


def test_directions_of_two_models_are_not_compared(runs, tmp_path):
    other = {**runs, "persona": (tmp_path / "persona", synthetic.result(model="another"))}
    with pytest.raises(AnachronError, match="one model"):
        compare(other)
    save(tmp_path / "persona", "persona", size=9)
    with pytest.raises(AnachronError, match=r"\[8, 9\] entries"):
        compare(runs)


def test_a_file_of_another_kind_is_refused(runs, tmp_path):
    save_tensors(tmp_path / "birds" / FILE, {"pca.0": torch.ones(8)}, {"method": "probe"})
    with pytest.raises(AnachronError, match=r"'pca\.0' is no <method>"):
        compare(runs)
    save_tensors(tmp_path / "birds" / FILE, {"pca.0": torch.ones(8)}, {})
    with pytest.raises(AnachronError, match="run birds again"):
        compare(runs)


def test_the_band_of_random_directions():
    # in many dimensions a cosine is nearly normal, with standard deviation 1 / sqrt(d)
    assert random_band(256) == pytest.approx(1.96 / 16, rel=0.03)
    assert random_band(256) == random_band(256)
    assert random_band(2) == pytest.approx(np.cos(0.05 * np.pi / 2), abs=0.01)


def test_pictures_hold_every_cell(runs):
    cosines, _ = compare(runs)
    assert cosines_svg(cosines).count('class="cell"') == 2 * 64
    figure = heat_map(cosines)
    assert [trace.type for trace in figure.data] == ["heatmap"] * 2
    assert figure.data[0].z[0][1] == pytest.approx(0.5**0.5)
    assert signed(-0.001) == "0.00" and signed(-0.25) == "−0.25"


def test_names_are_escaped(runs):
    cosines, _ = compare(runs)
    hostile = {**cosines, "model": "</svg><script>", "vectors": [{"name": v["name"]} for v in cosines["vectors"]]}
    assert "<script>" not in cosines_svg(hostile)
