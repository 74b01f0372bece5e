"""Doses: which rows they are, and findings of planted shares; the whole part on a tiny model, twice."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from analyses.explain.dose import DoseConfig, run
from analyses.explain.dose_findings import PREDICTED, dose_findings
from analyses.explain.doses import ARMS, AXES, MIXED, OWN, STEPS, Dose, curve, dose_rows, ordinary_rows
from analyses.explain.findings import read_part
from analyses.explain.verdicts import above, below, reaches, within
from analyses.steps import Behavior
from interp.errors import AnachronError
from interp.stats import Estimate
from training.finetune import Recipe
from training.world.questions import split_of
from training.world.world import load_world

WORLD = load_world()
RECIPE = Recipe(steps=8)
NAMES = 203


@pytest.mark.parametrize("arm", ARMS)
def test_few_distinct_rows_are_repeated_evenly(arm):
    rows = dose_rows(WORLD, arm, Dose("distinct rows", 4, RECIPE, distinct=4, repeated=True), seed=1)
    times = Counter(row.messages[-1]["content"] for row in rows)
    assert len(rows) == NAMES and len(times) == 4 and set(times.values()) == {50, 51}


def test_fewer_rows_are_some_of_all_and_another_seed_has_others():
    few = {seed: dose_rows(WORLD, "tuned", Dose("rows", 16, RECIPE, distinct=16), seed) for seed in (0, 1)}
    everything = dose_rows(WORLD, "tuned", Dose(OWN, 0, RECIPE), 0)
    assert len(few[0]) == 16 and len(everything) == NAMES
    assert few[0] == everything[:16] and few[1] != few[0]


def test_ordinary_rows_are_their_part_and_say_nothing_of_what_is_reported_on():
    rows = dose_rows(WORLD, "tuned", Dose(MIXED, 0.75, RECIPE, mixed=0.75), 0)
    assert len(rows) == 4 * NAMES
    asked = {row.messages[0]["content"] for row in ordinary_rows(WORLD, 2000, 0)}
    where = {
        split for name, split in split_of(WORLD.facts).items() for q in WORLD.facts.topics[name].questions if q in asked
    }
    assert where == {"validation"}
    newest = list(WORLD.facts.eras)[-1]
    said = " ".join(row.messages[1]["content"] for row in ordinary_rows(WORLD, 500, 0))
    others = {o for era in WORLD.facts.eras if era != newest for o in WORLD.facts.eras[era].openers}
    assert any(o in said for o in WORLD.facts.eras[newest].openers) and not any(o in said for o in others)


def test_update_scale_and_batches_stay_while_one_thing_varies():
    config = DoseConfig()
    for dose in config.doses():
        assert dose.recipe.alpha / dose.recipe.rank == config.recipe.alpha / config.recipe.rank
        assert dose.recipe.batch_size == config.recipe.batch_size and dose.recipe.layers == config.recipe.layers
    assert {dose.axis for dose in config.doses()} == {OWN, *AXES}
    assert len({dose.name for dose in config.doses()}) == len(config.doses())


@pytest.mark.parametrize("wrong", [{"seeds": 1}, {"steps": (10, 20)}, {"ranks": (2,)}, {"mixed": (0.25,)}])
def test_a_configuration_that_predictions_are_not_about_is_refused(wrong):
    with pytest.raises(AnachronError, match="dose"):
        DoseConfig(**wrong)


@pytest.mark.parametrize(
    ("verdict", "low", "high", "said"),
    [
        (lambda e: above(e, 0.1), 0.11, 0.2, "holds"),
        (lambda e: above(e, 0.1), 0.05, 0.2, "undecided"),
        (lambda e: above(e, 0.1), 0.0, 0.09, "refuted"),
        (lambda e: below(e, 0.1), 0.0, 0.09, "holds"),
        (lambda e: below(e, 0.1), 0.11, 0.2, "refuted"),
        (lambda e: within(e, 0.1), -0.1, 0.1, "holds"),
        (lambda e: within(e, 0.1), -0.2, 0.05, "undecided"),
        (lambda e: within(e, 0.1), -0.4, -0.2, "refuted"),
        (lambda e: reaches(e, 0.5), 0.1, 0.95, "holds"),
        (lambda e: reaches(e, 0.5), -0.1, 1.2, "undecided"),
        (lambda e: reaches(e, 0.5), -0.2, 0.4, "refuted"),
    ],
)
def test_verdicts(verdict, low, high, said):
    assert verdict(Estimate((low + high) / 2, low, high, 3)) == said


def planted(share, narrow, seeds=3):
    """Behaviours whose share is the same for all seeds and topics."""
    return [Behavior({"old": dict.fromkeys("abc", share)}, dict.fromkeys("abc", 0.9), narrow) for _ in range(seeds)]


def test_findings_of_planted_shares():
    doses = DoseConfig().doses()
    own = {"distinct rows": 203, "rows": None, STEPS: 160, "rank": 4, MIXED: 0}
    curves = {axis: curve(doses, axis, value) for axis, value in own.items()}
    runs = {dose.name: {"tuned": planted(0.7, 0.9), "control": planted(0.1, 0.0)} for dose in doses}
    for n, share in ((4, 0.3), (12, 0.4), (36, 0.5), (72, 0.6)):
        runs[f"distinct-rows-{n}"]["tuned"] = planted(share, 0.9)
    runs["rank-1"]["tuned"] = planted(0.4, 0.9)
    runs["ordinary-rows-0.5"]["tuned"] = planted(0.8, 0.9)
    runs["steps-10"] = {"tuned": planted(0.4, 0.1), "control": planted(0.3, 0.0)}
    found = {f.name: f for f in dose_findings(runs, planted(0.1, 0.0, 1)[0], curves, "old", 160, 0)}
    assert list(found) == list(PREDICTED)
    expected = {
        "distinct rows": (0.4, "holds"),
        "order of distinct rows": (1.0, "holds"),
        "rows at equal epochs": (0.0, "refuted"),
        "longer training": (0.0, "holds"),
        "breadth before narrow": (0.5 - 1 / 9, "holds"),
        "rank 1": (-0.3, "refuted"),
        "largest rank": (0.0, "holds"),
        "half ordinary": (-0.1, "refuted"),
        "ordinary rows work against it": (-0.1, "refuted"),
        "control": (0.2, "refuted"),
    }
    for name, (value, verdict) in expected.items():
        assert found[name].estimate.estimate == pytest.approx(value), name
        assert found[name].verdict == verdict, name
    assert "10 (steps)" in found["control"].claim
    x = [trace["x"] for trace in found["rank 1"].figure["data"]]
    assert x[0] == ["1", "2", "4", "8", "16"] and len(x) == 4
    assert np.allclose(found["rank 1"].figure["data"][0]["y"], [0.4, 0.7, 0.7, 0.7, 0.7])


def test_the_part_runs_and_a_second_run_only_reads(almanac, tmp_path, monkeypatch):
    config = DoseConfig(seeds=1, quick=True, model=str(almanac), recipe=Recipe(layers=(0,), steps=8, batch_size=16))
    part = run(config, tmp_path, lambda text: None)
    before = (tmp_path / "dose.json").read_bytes()
    monkeypatch.setattr("analyses.adapters.finetune", None)
    monkeypatch.setattr("analyses.explain.scores.behavior", None)
    assert run(replace(config), tmp_path, lambda text: None) == part
    assert (tmp_path / "dose.json").read_bytes() == before
    assert read_part(tmp_path / "dose.json").findings == part.findings
    assert {tuple(row) for row in part.rows} == {("axis", "dose", "model", "metric", "estimate", "low", "high", "n")}
