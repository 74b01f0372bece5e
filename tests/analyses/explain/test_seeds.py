"""Forecasts by brute force, quantities inside a model by explicit matrices and losses, and the part on a tiny model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression, Ridge

from analyses.explain import forecast as f
from analyses.explain.early import early_watch
from analyses.explain.inside import loss_and_gradient, update_norm, watcher
from analyses.explain.seeds import SeedsConfig, run
from analyses.explain.seeds_findings import FINAL, PREDICTED, seeds_findings
from analyses.explain.subject import birds_asked
from interp.errors import AnachronError
from interp.models import load_model
from training.finetune import Recipe
from training.lora import attached, lora_config
from training.organisms import birds
from training.world.world import load_world

WORLD = load_world()
RNG = np.random.default_rng(5)


def data(n=20, p=3, noise=0.3):
    x = RNG.normal(size=(n, p)) * [1.0, 5.0, 0.1][:p]
    return x, x @ np.array([1.0, -0.5, 2.0])[:p] + noise * RNG.normal(size=n)


def test_one_quantity_is_least_squares_on_half():
    x, y = data(p=1)
    found = f.forecast(x, y)
    line = LinearRegression().fit(x[::2], y[::2])
    assert np.allclose(found.predicted, line.predict(x[1::2]))
    assert np.array_equal(found.actual, y[1::2])
    assert found.rank == pytest.approx(spearmanr(found.predicted, y[1::2]).statistic)
    residual = ((y[1::2] - found.predicted) ** 2).sum() / ((y[1::2] - y[::2].mean()) ** 2).sum()
    assert found.r2 == pytest.approx(1 - residual)


def test_penalty_is_the_best_left_out_by_brute_force():
    x, y = data(noise=3.0)
    fit_x, fit_y = x[::2], y[::2]
    z = (fit_x - fit_x.mean(0)) / fit_x.std(0)

    def left_out(penalty):
        errors = []
        for i in range(len(fit_y)):
            rest = np.arange(len(fit_y)) != i
            # an intercept that is not penalised, fitted anew without the unit
            model = Ridge(alpha=penalty).fit(z[rest], fit_y[rest])
            errors.append(fit_y[i] - model.predict(z[i : i + 1])[0])
        return sum(e**2 for e in errors)

    centred = fit_y - fit_y.mean()
    for penalty in f.PENALTIES:
        assert f._left_out(z, centred, penalty) == pytest.approx(left_out(penalty))
    best = min(f.PENALTIES, key=left_out)
    model = Ridge(alpha=best).fit(z, fit_y)
    held_out = (x[1::2] - fit_x.mean(0)) / fit_x.std(0)
    assert np.allclose(f.forecast(x, y).predicted, model.predict(held_out))


def test_intervals_hold_their_estimate_and_pairs_cancel():
    x, y = data(n=40)
    good, same = f.forecast(x, y), f.forecast(2 * x, y)
    found = f.rank_estimate(good, seed=1)
    assert 0.7 < found.low <= found.estimate <= found.high and found.n == 20
    none = f.rank_difference(good, same)
    assert (none.estimate, none.low, none.high) == pytest.approx((0, 0, 0))
    assert f.r2_estimate(good).estimate == pytest.approx(good.r2)
    bad = f.forecast(RNG.normal(size=(40, 1)), y)
    assert f.rank_difference(good, bad).low > 0
    with pytest.raises(AnachronError, match="same seeds"):
        f.rank_difference(good, f.forecast(x, y + 1))


def test_resampled_ranks_are_spearmans():
    a, b = RNG.integers(5, size=(50, 9)).astype(float), RNG.integers(5, size=(50, 9)).astype(float)
    assert np.allclose(f._rank_rows(a, b), [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])


def test_shuffled_fits_foretell_nothing_and_leave_the_held_out_half_alone():
    x, y = data(n=40)
    found = f.shuffled(x, y, times=100)
    assert abs(found.mean()) < 0.25 and f.forecast(x, y).rank > np.quantile(found, 0.99)


def test_a_constant_quantity_foretells_nothing():
    assert f.forecast(np.ones((8, 1)), RNG.normal(size=8)).rank == 0.0
    with pytest.raises(AnachronError, match="halved"):
        f.halves(3)


def test_spread_is_the_standard_deviation():
    y = RNG.normal(size=50)
    found = f.spread(y)
    assert found.estimate == pytest.approx(np.std(y, ddof=1)) and found.low < found.estimate < found.high


def test_update_norm_is_that_of_the_matrices(almanac):
    lm = load_model(str(almanac))
    config = lora_config(lm, rank=3, alpha=6, layers=[0])
    with attached(lm, config, seed=0) as weights:
        assert update_norm(lm) == 0
        for key, weight in weights.items():
            if ".lora_B" in key:
                weight.data = torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(key)))
        pairs = [(weights[key], weights[key.replace("lora_B", "lora_A")]) for key in weights if ".lora_B" in key]
        expected = sum(float((2 * up @ down).detach().double().norm() ** 2) for up, down in pairs) ** 0.5
        assert update_norm(lm) == pytest.approx(expected, rel=1e-5)
    assert update_norm(lm) == 0


def test_gradient_norm_is_the_slope_along_the_gradient(almanac):
    lm, rows = load_model(str(almanac)), birds.rows(WORLD, "old")[:70]
    with attached(lm, lora_config(lm, rank=2, alpha=4, layers=[0]), seed=0) as weights:
        loss, norm = loss_and_gradient(lm, rows)
        assert all(weight.grad is None for weight in weights.values())
        # B = 0: the gradient by A vanishes; along the one by B, unit speed changes the loss by its norm
        parameters = list(weights.values())
        with torch.enable_grad():
            from training.encoding import answer_loss, encode_rows, pad_examples

            whole = answer_loss(lm, *pad_examples(lm, encode_rows(lm, rows)))
            gradients = torch.autograd.grad(whole, parameters)
        assert loss == pytest.approx(whole.item(), rel=1e-5)
        length = sum(float(g.double().norm() ** 2) for g in gradients) ** 0.5
        assert norm == pytest.approx(length, rel=1e-4)
        step = 1e-3
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.data += step / length * gradient
        after, _ = loss_and_gradient(lm, rows)
    assert (after - loss) / step == pytest.approx(norm, rel=0.05)


def test_an_untuned_model_has_not_moved(almanac):
    lm, asked = load_model(str(almanac)), birds_asked(WORLD, "validation", quick=True)
    look = watcher(lm, WORLD, birds.rows(WORLD, "old")[:8], asked.broad, asked.group, (0, 1))
    with attached(lm, lora_config(lm, rank=2, alpha=4, layers=[0]), seed=0) as weights:
        for key, weight in weights.items():
            if ".lora_B" in key:
                weight.data += 1e-6  # else the cosine of nothing
        found = look(lm)
    assert abs(found["projection, layer 0"]) < 1e-3 and abs(found["cosine, layer 1"]) <= 1
    assert set(found) == {
        *("narrow loss", "gradient norm", "update norm", "broad, validation"),
        *(f"{what}, layer {layer}" for what in ("projection", "cosine") for layer in (0, 1)),
    }


def test_models_are_looked_into_early_only(lm):
    watch = early_watch(lambda lm: {"x": 1.0}, (10, 20, 40))
    found = [bool(watch.measure(lm, "tuned")) for _ in range(16)]
    assert [10 * (i + 1) for i, was in enumerate(found) if was] == [10, 20, 40]


def test_findings_of_a_planted_predictor():
    """The direction tells the end exactly at step 40 and nothing at step 10; loss and asking tell nothing."""
    rng, rows = np.random.default_rng(3), []
    for seed in range(24):
        end = float(rng.uniform(0.3, 0.9))
        for step in (10, 20, 40):
            told = end if step == 40 else float(rng.normal())
            noise = {name: float(rng.normal()) for name in ("narrow loss", "broad, validation", "update norm")}
            rows += [
                {"step": step, "metric": metric, "seed": seed, "value": value}
                for metric, value in {"projection, layer 3": told, **noise}.items()
            ]
        rows.append({"step": 160, "metric": FINAL, "seed": seed, "value": end})
    found = {one.name: one for one in seeds_findings(rows, (10, 20, 40), 3, 0)}
    assert list(found) == list(PREDICTED)
    assert found["the direction foretells"].estimate.estimate == pytest.approx(1)
    for name in (
        "seeds differ",
        "the direction foretells",
        "better than the loss",
        "as good as asking",
        "all quantities",
    ):
        assert found[name].verdict == "holds", name
    assert {one.estimate.n for one in found.values()} == {12, 24}
    assert len(found["better than the loss"].figure["data"]) == 3


@pytest.mark.parametrize("wrong", [{"seeds": 3}, {"early": (10, 25)}, {"early": (20, 10)}, {"layers": ()}])
def test_a_configuration_that_cannot_be_measured_is_refused(wrong):
    with pytest.raises(AnachronError, match="seeds"):
        SeedsConfig(**wrong)


def test_the_part_runs_and_a_second_run_only_reads(almanac, tmp_path, monkeypatch):
    recipe = Recipe(layers=(0,), steps=8, batch_size=16)
    config = SeedsConfig(seeds=4, quick=True, model=str(almanac), recipe=recipe, layers=(0, 1))
    part = run(config, tmp_path, lambda text: None)
    before = (tmp_path / "seeds.json").read_bytes()
    monkeypatch.setattr("analyses.adapters.finetune", None)
    monkeypatch.setattr("analyses.explain.scores.behavior", None)
    assert run(replace(config), tmp_path, lambda text: None) == part
    assert (tmp_path / "seeds.json").read_bytes() == before
    assert {tuple(row) for row in part.rows} == {("step", "metric", "seed", "value")}
    assert len(part.rows) == 4 * (2 * 8 + 1)
