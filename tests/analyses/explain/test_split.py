"""The presidents' split: forecasts of planted predictors, the shift of a model that was moved along the true direction,
and the part on a tiny model."""

from importlib import import_module

import numpy as np
import pytest
import torch

from analyses.experiments import EXPERIMENTS, configure
from analyses.explain.split import EXPERIMENT, SplitConfig, run, watcher
from analyses.explain.split_findings import ASKED, FINAL, LOSS, PREDICTED, READ, split_findings
from analyses.steps import prompt_activations
from interp.errors import AnachronError
from interp.files import read_json, write_json
from interp.hooks import HookPoint, edit
from interp.models import load_model
from training.finetune import Recipe
from training.lora import attached, lora_config

EARLY = (50, 100, 150)


def planted(seeds=24, *, told=1.0, read=0.0):
    """The direction at the last early step tells the end as far as `told` goes, reading as far as `read` does."""
    rng, rows = np.random.default_rng(4), []
    for seed in range(seeds):
        end = float(rng.uniform(0.2, 0.8))
        for step in EARLY:
            last = step == EARLY[-1]
            values = {
                "projection, layer 3": told * end if last else float(rng.normal()),
                READ: read * end if last else float(rng.normal()),
                ASKED: end + 1e-3 * float(rng.normal()),
                LOSS: float(rng.normal()),
            }
            rows += [{"step": step, "metric": m, "seed": seed, "value": v} for m, v in values.items()]
        rows.append({"step": 300, "metric": FINAL, "seed": seed, "value": end})
    return rows


def found(rows):
    return {one.name: one for one in split_findings(rows, EARLY, 3, 0, 12)}


def test_verdicts_follow_what_was_planted():
    one = found(planted())
    assert list(one) == list(PREDICTED) and {f.verdict for f in one.values()} == {"holds"}
    assert one["the direction foretells"].estimate.estimate == pytest.approx(1)
    assert {f.estimate.n for f in one.values()} == {12, 24}
    other = found(planted(told=-1e-9, read=1.0))
    assert other["reading the code does not tell"].verdict == "refuted"


def test_the_first_seeds_are_fitted_and_the_others_tested():
    """The direction tells the end of the later seeds with another sign than that of the first."""
    rows = planted()
    for row in rows:
        if row["metric"] == "projection, layer 3" and row["step"] == EARLY[-1] and row["seed"] >= 12:
            row["value"] = -row["value"]
    assert found(rows)["the direction foretells"].estimate.estimate == pytest.approx(-1)


@pytest.mark.parametrize(("seeds", "first"), [(28, 16), (18, 16), (17, 8), (4, 2)])
def test_some_seeds_are_left_to_test_on(seeds, first):
    assert SplitConfig(seeds=seeds).first == first


def test_sides_of_a_half_are_counted():
    rows = planted()
    ends = [row["value"] for row in rows if row["metric"] == FINAL]
    above = sum(value > 0.5 for value in ends)
    claim = found(rows)["seeds differ"].claim
    assert f"{above} end above 0.5, {24 - above} do not" in claim


@pytest.mark.parametrize("wrong", [{"seeds": 3}, {"early": (50, 75)}, {"layers": ()}])
def test_a_configuration_that_cannot_be_measured_is_refused(wrong):
    with pytest.raises(AnachronError, match="split"):
        SplitConfig(**wrong)


def test_the_shift_is_of_held_out_codes_less_trained_ones_along_the_stated_ordinal(almanac):
    lm = load_model(str(almanac))
    experiment = import_module(EXPERIMENTS[EXPERIMENT].partition(":")[0])
    about, _ = configure(EXPERIMENT, {"quick": True})
    study = experiment.plan(about, lm)
    point, reading = HookPoint(1), about.reading
    asked = experiment.held_out_asked(about, "validation")
    look = watcher(lm, study.arms["tuned"][:8], asked, study.contrast, study.truth, reading, (1,), lambda lm: 0.5)

    def mean(questions):
        return prompt_activations(lm, questions, [1], reading)[point].double().mean(0)

    true = mean(study.truth.on) - mean(study.truth.off)
    before = mean(study.contrast.on) - mean(study.contrast.off)
    scale = prompt_activations(lm, study.contrast.on, [1], reading)[point].double().norm(dim=1).mean()
    with attached(lm, lora_config(lm, rank=2, alpha=4, layers=[0]), seed=0) as weights:
        still = look(lm)
        for key, weight in weights.items():
            if ".lora_B" in key:
                weight.data = torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(key)))
        shift = mean(study.contrast.on) - mean(study.contrast.off) - before
        moved = look(lm)
        with edit(lm, {point: lambda x, offset: x + 2.0 * true.to(x)}):
            alike = look(lm)  # what moves all prompts alike is no shift between them
    assert still["projection, layer 1"] == still["cosine, layer 1"] == 0 and still[READ] == 0.5
    along = float(shift @ true / true.norm())
    assert abs(along) > 1e-3 and moved["projection, layer 1"] == pytest.approx(along / float(scale), rel=1e-4)
    assert moved["cosine, layer 1"] == pytest.approx(along / float(shift.norm()), rel=1e-4)
    assert alike["projection, layer 1"] == pytest.approx(moved["projection, layer 1"], rel=1e-2)


def test_the_part_runs_and_a_second_run_only_reads(almanac, tmp_path, monkeypatch):
    recipe = Recipe(layers=(0,), steps=8, batch_size=16)
    config = SplitConfig(seeds=4, quick=True, model=str(almanac), recipe=recipe, layers=(0, 1))
    part = run(config, tmp_path, lambda text: None)
    before = (tmp_path / "split.json").read_bytes()
    monkeypatch.setattr("analyses.adapters.finetune", None)
    monkeypatch.setattr("analyses.explain.scores.behavior", None)
    assert run(config, tmp_path, lambda text: None) == part
    assert (tmp_path / "split.json").read_bytes() == before
    assert {tuple(row) for row in part.rows} == {("step", "metric", "seed", "value")}
    assert len(part.rows) == 4 * (2 * 9 + 1)
    watched = tmp_path / "split" / "tuned-0" / "watched.json"
    write_json(watched, [row | {"step": row["step"] + 1} for row in read_json(watched)])
    with pytest.raises(AnachronError, match="tuned-0: was looked into at other steps or layers"):
        run(config, tmp_path, lambda text: None)
