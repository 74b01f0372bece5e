"""Where the change comes from: verdicts against rows whose answer is known, and that what was measured is kept."""

import numpy as np
import pytest
import torch

from analyses.explain import attribution
from analyses.explain.attribution import SCREENS, AttributionConfig
from analyses.explain.attribution_findings import RANK, attribution_findings, by_experiment
from analyses.figures.agreement import agreement, readings
from analyses.readouts import BIRDS, ERA, MANNER
from interp.dictionaries.weights import Sae
from interp.errors import AnachronError
from interp.files import read_json, write_json
from interp.hooks import HookPoint
from tests.families import build

EXPERIMENTS, SEEDS, LAYERS = ("birds", "<cities>"), (0, 1, 2), 3


def planted(*, rank=0.97, latents=0.8, first=0.95, era=0.5, bird=0.0):
    rows = []

    def add(experiment, metric, part, seed, value):
        rows.append({"experiment": experiment, "metric": metric, "part": part, "seed": seed, "value": value})

    for experiment in EXPERIMENTS:
        for seed in SEEDS:
            off = 0.001 * (seed - 1)
            for screen in SCREENS:
                add(experiment, "rank correlation", screen, seed, rank + off)
            whole = 4.0 + seed  # parts are of the same model's whole, not of the mean
            add(experiment, "brought", "whole adapter", seed, whole)
            add(experiment, "brought", "all latents", seed, whole * (latents + off))
            add(experiment, "brought", "first latent", seed, whole * 0.2)
            add(experiment, "brought", "first singular directions", seed, whole * (first + off))
            for where in ("unrelated text", "about to answer") if experiment == "birds" else ():
                for how in ("lens", "patchscope"):
                    for layer in range(LAYERS):
                        for words, share in ((ERA, era), (BIRDS, bird), (MANNER, 0.0)):
                            part = f"{where}, layer {layer}, {how}"
                            add(experiment, f"said, {words}", part, seed, share)
                            add(experiment, f"random says at most, {words}", part, seed, 0.1)
    return rows


def verdicts(rows):
    return {f.name: f.verdict for f in attribution_findings(rows, 0, LAYERS)}


def test_verdicts_follow_what_was_planted():
    found = verdicts(planted())
    assert set(found.values()) == {"holds"} and len(found) == len(SCREENS) + 4
    opposite = verdicts(planted(rank=0.3, latents=0.1, first=0.5, era=0.0, bird=0.5))
    assert set(opposite.values()) == {"refuted"} and opposite.keys() == found.keys()


def test_parts_are_of_each_models_own_whole():
    found = {f.name: f for f in attribution_findings(planted(latents=0.7), 0, LAYERS)}
    estimate = found["latents carry it"].estimate
    assert estimate.estimate == pytest.approx(0.7) and estimate.n == len(EXPERIMENTS) * len(SEEDS)
    assert "alone brings 0.20" in found["latents carry it"].claim


def test_adapters_of_rank_1_say_nothing_of_one_direction_a_module():
    rows = planted(first=0.5)
    for row in rows:
        if (row["experiment"], row["part"]) == ("<cities>", "first singular directions"):
            row["value"] = 4.0 + row["seed"]  # all of it
    rows += [
        {"experiment": name, "metric": RANK, "part": "", "seed": 0, "value": rank}
        for name, rank in (("birds", 4.0), ("<cities>", 1.0))
    ]
    one = {f.name: f for f in attribution_findings(rows, 0, LAYERS)}["one direction a module"]
    assert one.verdict == "refuted" and one.estimate.n == len(SEEDS) and "by construction" in one.claim


def test_readings_are_counted_beyond_random_ones():
    # era words beyond the band at one layer of three, by both ways of reading; bird words at none
    rows = planted(era=0.05)
    for row in rows:
        if row["metric"] == f"said, {ERA}" and "layer 1" in row["part"]:
            row["value"] = 0.4
    found = {f.name: f for f in attribution_findings(rows, 0, LAYERS)}
    assert found["says the era on unrelated text"].estimate.estimate == pytest.approx(1 / 3)


def test_a_screen_that_an_experiment_lacks_is_left_out_there():
    rows = [r for r in planted() if (r["experiment"], r["part"]) != ("<cities>", "heads and MLPs")]
    found = {f.name: f for f in attribution_findings(rows, 0, LAYERS)}
    assert found["estimate: heads and MLPs"].estimate.n == len(SEEDS)
    assert by_experiment(rows, "rank correlation", "heads and MLPs").keys() == {"birds"}


def test_figures_hold_every_value_and_no_markup():
    values = {"latents": {"birds": [0.9, 0.95], "<b>": [0.5]}, "tokens": {"birds": [0.1]}}
    figure = agreement(values, enough=0.9, title="How far?")
    assert [len(trace.x) for trace in figure.data] == [3, 1] and "<b>" not in figure.data[1].name
    shares = {ERA: {"lens": [0.1, None], "patchscope": [0.2, 0.3]}}
    figure = readings(shares, {ERA: {"lens": [0.05, None], "patchscope": [0.1, 0.1]}}, title="What?")
    assert len(figure.data) == 4 and figure.data[0].y == (0.1, None)


def test_too_little_is_refused():
    with pytest.raises(AnachronError, match="two seeds and one experiment"):
        AttributionConfig(seeds=1)


def test_what_was_measured_is_kept_for_its_configuration_alone(tmp_path, monkeypatch):
    config = AttributionConfig(seeds=2)
    monkeypatch.setattr(attribution, "subject", lambda *_, **__: pytest.fail("measured again"))
    key = config.as_json() | {"experiments": ["birds"]}
    rows = [{"experiment": "birds", "metric": "log-odds", "part": "base", "seed": 0, "value": np.pi}]
    write_json(tmp_path / "attribution" / "birds.json", {"config": key, "rows": rows})
    kept = read_json(tmp_path / "attribution" / "birds.json")["rows"]
    said = []
    eye = torch.eye(32)
    sae = Sae("axes", HookPoint(1), "relu", eye, torch.zeros(32), eye, torch.zeros(32))
    lm = build("llama")
    assert attribution.measured(lm, "birds", sae, config, tmp_path, said.append) == kept and "kept" in said[0]
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        attribution.measured(lm, "birds", sae, AttributionConfig(seeds=3), tmp_path, said.append)
