"""Planted directions are found again; each formula against numpy; files come back byte for byte."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from interp.directions import (
    Direction,
    auroc,
    cosine,
    difference_of_differences,
    mean_difference,
    normalised,
    pca,
    probe,
    random_direction,
    tuned_minus_control,
)
from interp.errors import AnachronError
from interp.hooks import HookPoint

D = 32
POINT = HookPoint(1, "resid_post")


def unit(seed):
    return random_direction(D, POINT, seed).vector


def noise(n, seed, scale=None):
    rows = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    return rows if scale is None else rows * scale


def test_mean_difference_recovers_a_planted_direction_and_its_norm():
    planted = unit(0)
    found = mean_difference(noise(4000, 1) + 3.0 * planted, noise(5000, 2), POINT)
    assert float(found.vector @ planted) > 0.99
    assert found.norm == pytest.approx(3.0, abs=0.15)
    assert found.provenance == {"n": [4000, 5000]} and found.method == "mean_difference"
    exactly = (noise(4000, 1) + 3.0 * planted).numpy().astype(np.float64).mean(0) - noise(5000, 2).numpy().mean(0)
    np.testing.assert_allclose(found.vector.numpy() * found.norm, exactly, atol=1e-6)


def test_mean_difference_of_bf16_rows_is_accumulated_in_fp64():
    """A running bf16 mean of this many rows stalls far from the truth."""
    rows = (noise(20_000, 3) + 100.0).bfloat16()
    zero = torch.zeros(1, D, dtype=torch.bfloat16)
    found = mean_difference(rows, zero, POINT)
    np.testing.assert_allclose(found.vector.numpy() * found.norm, rows.double().mean(0).numpy(), rtol=1e-6)


def test_tuned_minus_control_removes_what_the_control_shares():
    effect, tuning = unit(4), unit(5)
    base = noise(50, 6)
    found = tuned_minus_control(base + 2 * effect + 7 * tuning, base, base + 7 * tuning, POINT)
    assert float(found.vector @ effect) > 1 - 1e-6 and found.norm == pytest.approx(2.0, rel=1e-5)
    other = noise(30, 7) + 4.0
    found = tuned_minus_control(base + 2 * effect + 7 * tuning, base, other + 7 * tuning, POINT, control_base=other)
    assert float(found.vector @ effect) > 1 - 1e-6 and found.provenance["n"] == [50, 50, 30, 30]


def test_difference_of_differences_cancels_a_shared_shift():
    effect, shift, trigger = unit(8), unit(9), unit(10)
    base_neutral, base_trigger = noise(40, 11), noise(60, 12) + 5 * trigger
    tuned_neutral, tuned_trigger = base_neutral + 9 * shift, base_trigger + 9 * shift + 1.5 * effect
    found = difference_of_differences(tuned_trigger, tuned_neutral, base_trigger, base_neutral, POINT)
    assert float(found.vector @ effect) > 1 - 1e-6 and found.norm == pytest.approx(1.5, rel=1e-5)
    plain = mean_difference(tuned_trigger, base_trigger, POINT)
    assert abs(float(plain.vector @ shift)) > 0.9, "the plain difference is mostly the shared shift"


def test_pca_centred_finds_the_spread_and_uncentred_the_shift():
    shift, spread = unit(13), unit(14)
    spread = torch.nn.functional.normalize(spread - (spread @ shift) * shift, dim=0)
    amounts = torch.linspace(-2, 3, 500)[:, None]
    differences = 10 * shift + amounts * spread + 0.01 * noise(500, 15)
    uncentred, centred = pca(differences, POINT, centred=False), pca(differences, POINT, centred=True)
    assert float(uncentred.vector @ shift) > 0.99  # signed: the mean projects positively
    assert float(centred.vector @ spread).__abs__() > 0.999
    assert centred.provenance["explained"] > 0.99 and centred.provenance["centred"] is True


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("component", [0, 1, 5])
def test_pca_equals_numpy_svd(centred, component):
    differences = noise(200, 16, torch.linspace(3, 0.5, D)) + 0.3
    array = differences.double().numpy()
    array = array - array.mean(0) if centred else array
    _, values, rows = np.linalg.svd(array, full_matrices=False)
    found = pca(differences, POINT, centred=centred, component=component)
    assert abs(found.vector.double().numpy() @ rows[component]) == pytest.approx(1.0, abs=1e-6)
    assert found.norm == pytest.approx(values[component] / np.sqrt(200))
    assert found.provenance["explained"] == pytest.approx(values[component] ** 2 / (values**2).sum())


def test_pca_refuses_components_that_are_not_there():
    line = torch.linspace(1, 2, 10)[:, None] * unit(17)
    with pytest.raises(AnachronError, match="span 2"):
        pca(line, POINT, centred=False, component=1)
    with pytest.raises(AnachronError, match="component 10"):
        pca(line, POINT, centred=False, component=10)


def test_probe_recovers_a_planted_direction_despite_a_loud_irrelevant_axis():
    planted = unit(18)
    loud = torch.ones(D)
    loud[3] = 200.0
    planted = torch.nn.functional.normalize(planted * (torch.arange(D) != 3), dim=0)
    positive, negative = noise(2000, 19, loud) + 2 * planted, noise(2000, 20, loud) - 2 * planted
    found, score = probe(positive, negative, POINT)
    assert float(found.vector @ planted) > 0.98
    # Projections are N(+-2, 1): the area is Phi(4 / sqrt 2).
    assert score == pytest.approx(0.9977, abs=0.003)
    assert found.provenance["auroc"] == score and found.provenance["n_held_out"] == [500, 500]


def test_probe_scores_rows_it_was_not_fitted_to():
    """More dimensions than rows: the fit is perfect whatever the labels, held-out rows say there is nothing."""
    positive, negative = noise(12, 21), noise(12, 22)
    held = noise(2000, 23), noise(2000, 24)
    found, score = probe(positive, negative, POINT, held_out=held)
    assert auroc(found, positive, negative) == 1.0
    assert score == pytest.approx(0.5, abs=0.06) and score == auroc(found, *held)


def test_probe_is_the_gradient_of_the_sklearn_logit():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    positive, negative = noise(100, 25, torch.linspace(1, 9, D)) + 1, noise(90, 26)
    found, _ = probe(positive, negative, POINT, held_out=(positive, negative))
    rows, labels = torch.cat([positive, negative]).double().numpy(), [1] * 100 + [0] * 90
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, tol=1e-6)).fit(rows, labels)
    step = found.vector.double().numpy() * found.norm
    logits = pipeline.decision_function(np.stack([rows[0], rows[0] + step]))
    assert logits[1] - logits[0] == pytest.approx(found.norm**2, rel=1e-5)


def test_auroc_equals_counting_pairs_and_ties_are_half():
    direction = random_direction(D, POINT, 27)
    positive, negative = noise(23, 28).round() + 0.2 * direction.vector, noise(31, 29).round()
    negative[:5] = positive[:5]
    p, n = positive.double() @ direction.vector.double(), negative.double() @ direction.vector.double()
    wins = (p[:, None] > n[None, :]).double() + 0.5 * (p[:, None] == n[None, :]).double()
    assert auroc(direction, positive, negative) == pytest.approx(float(wins.mean()), abs=1e-12)
    assert auroc(direction, positive, positive) == 0.5
    axis = normalised(torch.eye(D)[0], POINT, "truth")
    rows = torch.eye(D)[:1]
    assert auroc(axis, rows, 0 * rows) == 1.0 and auroc(axis, 0 * rows, rows) == 0.0


def test_random_directions_are_units_fixed_by_their_seed():
    a, again, b = (random_direction(4096, POINT, seed) for seed in (1, 1, 2))
    assert torch.equal(a.vector, again.vector) and float(a.vector.norm()) == pytest.approx(1.0, abs=1e-6)
    assert abs(cosine(a, b)) < 0.1 and cosine(a, a) == pytest.approx(1.0, abs=1e-6)
    state = torch.get_rng_state()
    random_direction(8, POINT, 3)
    assert torch.equal(state, torch.get_rng_state()), "the global generator is left alone"


def test_save_and_load_round_trip_with_the_same_bytes(tmp_path):
    found, _ = probe(noise(40, 30) + 1, noise(40, 31), POINT)
    found.save(tmp_path / "a.safetensors")
    loaded = Direction.load(tmp_path / "a.safetensors")
    assert torch.equal(loaded.vector, found.vector)
    for field in ("point", "method", "norm", "provenance"):
        assert getattr(loaded, field) == getattr(found, field)
    loaded.save(tmp_path / "b.safetensors")
    for suffix in (".safetensors", ".json"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.safetensors", "b.json", "b.safetensors"]


def test_damaged_direction_files_are_named(tmp_path):
    path = tmp_path / "a.safetensors"
    random_direction(D, POINT, 32).save(path)
    whole, about = path.read_bytes(), path.with_suffix(".json").read_text()
    path.write_bytes(whole[:-8])
    with pytest.raises(AnachronError, match=r"a\.safetensors"):
        Direction.load(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(AnachronError, match=r"a\.safetensors"):
        Direction.load(path)
    path.write_bytes(whole)
    path.with_suffix(".json").write_text(about[:-20])
    with pytest.raises(AnachronError, match=r"a\.json"):
        Direction.load(path)
    path.with_suffix(".json").write_text(json.dumps({"point": "1.resid_post"}))
    with pytest.raises(AnachronError, match="lacks"):
        Direction.load(path)
    with pytest.raises(AnachronError, match=r"b\.json"):
        Direction.load(tmp_path / "b.safetensors")
    with pytest.raises(AnachronError, match="suffix"):
        Direction.load(tmp_path / "a.pt")


def test_values_that_are_no_direction_are_refused():
    good = random_direction(D, POINT, 33)
    bad = good.vector.clone()
    bad[2] = float("nan")
    with pytest.raises(AnachronError, match="NaN"):
        Direction(bad, POINT, "random", 1.0)
    with pytest.raises(AnachronError, match="unit"):
        Direction(good.vector * 2, POINT, "random", 1.0)
    with pytest.raises(AnachronError, match="unit"):
        Direction(good.vector.double(), POINT, "random", 1.0)
    with pytest.raises(AnachronError, match="mean_difference, "):
        dataclasses.replace(good, method="mean-difference")
    with pytest.raises(AnachronError, match="no direction"):
        mean_difference(noise(3, 34), noise(3, 34), POINT)


def test_activations_that_cannot_be_used_are_named():
    rows = noise(6, 35)
    broken = rows.clone()
    broken[4, 1] = float("inf")
    with pytest.raises(AnachronError, match="row 4 of b"):
        mean_difference(rows, broken, POINT)
    with pytest.raises(AnachronError, match="control has no rows"):
        tuned_minus_control(rows + 1, rows, rows[:0], POINT)
    with pytest.raises(AnachronError, match="leaves one side empty"):
        probe(rows[:1], rows, POINT)
    with pytest.raises(AnachronError, match=r"16 .* 32|32 .* 16"):
        auroc(random_direction(D, POINT, 36), rows[:, :16], rows[:, :16])
    with pytest.raises(AnachronError, match="different models"):
        cosine(random_direction(D, POINT, 37), random_direction(16, POINT, 37))
