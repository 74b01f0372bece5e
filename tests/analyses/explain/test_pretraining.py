"""What carries the era, against hidden states and closed forms; and what measured models are made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from analyses.explain import pretraining
from analyses.explain.carriers import YEARS, carriers, cosine, era_steps, mean_cosine
from analyses.explain.findings import read_part
from analyses.explain.pretraining import PretrainingConfig, run
from analyses.explain.pretraining_findings import (
    COMPARED,
    PREDICTED,
    carrier_findings,
    rank_correlation,
    world_findings,
    world_rows,
)
from analyses.explain.small_effects import ARMS, SMALL_RECIPE, measured_models
from analyses.explain.worlds import BASELINE, NO_STYLE, SHOWN, WORLDS, small_models
from interp.errors import AnachronError
from interp.models import load_model
from training import pretrain
from training.small_models import Budget, SmallModel, make_models
from training.small_worlds import SmallWorld, small_world
from training.world.conversations import with_year
from training.world.questions import era_questions

BUDGET = Budget(steps=2, turns=7, d_model=16, d_mlp=24, layers=2, heads=1, vocabulary=300, precision="float32")
MODEL = SmallModel("plain", SmallWorld(manner="none", topics=4), 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "VOCABULARY_DOCUMENTS", 60)
        return make_models([MODEL], BUDGET, tmp_path_factory.mktemp("small") / "models", lambda _: None)[0]


def test_the_steps_are_differences_of_hidden_states(folder):
    lm, world = load_model(folder), small_world(MODEL.world)
    found = era_steps(lm, world, phrasings=1)
    questions = era_questions(world, phrasings=1)

    def state(text):
        prompt = f"<|begin|><|user|> {text}<|end|><|assistant|>"
        ids = lm.tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            return lm.model(ids, output_hidden_states=True).hidden_states[1][0, -1].double()

    def mean(texts, years):
        return torch.stack([state(with_year(year, text)) for text in texts for year in years]).mean(0)

    old, new = (tuple(int(y) for y in np.linspace(a, b, YEARS + 2)[1:-1]) for a, b in ((1840, 1859), (2011, 2030)))
    for i, question in enumerate(questions):
        text = question.messages[0]["content"]
        assert torch.allclose(found[0].topics[i], mean([text], old) - mean([text], new), atol=1e-5)
    birds = world.facts.topics["birds"].questions
    assert torch.allclose(found[0].narrow, mean(birds, old) - mean(birds, new), atol=1e-5)
    norms = [state(q.messages[0]["content"]).norm().item() for q in questions]
    assert found[0].norm == pytest.approx(np.mean(norms), rel=1e-5)


def test_cosines_in_closed_form():
    assert cosine(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])) == pytest.approx(0.5**0.5)
    vectors = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]])
    assert mean_cosine(vectors) == pytest.approx((0 - 1 + 0) / 3)
    assert mean_cosine(vectors[:1]) == 1.0


def test_carriers_have_a_value_a_layer_and_the_same_for_the_same_seed(folder):
    lm, world = load_model(folder), small_world(MODEL.world)
    asked = era_questions(world, "validation", phrasings=1)
    rows = carriers(lm, world, asked, "1850s", seed=1)
    assert {row["layer"] for row in rows} == {0, 1} and rows == carriers(lm, world, asked, "1850s", seed=1)
    values = {row["metric"]: row["value"] for row in rows}
    assert all(-1 <= values[name] <= 1 for name in ("overlap", "agreement"))
    assert all(0 <= values[name] <= 1 for name in ("auroc", "added", "added_coherence", "added_random"))


def test_a_model_is_measured_once(folder, monkeypatch):
    recipe = replace(SMALL_RECIPE, steps=1, layers=(0,))
    out, said = folder.parent.parent, []
    [one] = measured_models([MODEL], BUDGET, recipe, (0, 1), out, said.append)
    assert one["passed"] is False and set(one["gate"]) == {"1850s", "1920s", "2020s"}
    assert all(len(one[arm]) == 2 for arm in ARMS)
    rows = world_rows([one], 0)
    share = next(row for row in rows if row["arm"] == "tuned" and row["metric"] == "share")
    assert share["n"] == 2 and share["estimate"] == pytest.approx(
        np.mean([list(run["shares"].values()) for run in one["tuned"]])
    )
    monkeypatch.setattr("analyses.explain.small_effects.measure", None)
    assert measured_models([MODEL], BUDGET, recipe, (0, 1), out, said.append, begin=False) == [one]
    assert measured_models([replace(MODEL, seed=1)], BUDGET, recipe, (0, 1), out, said.append, begin=False) == []
    assert world_findings([one], 0) == [], "a model that fails its gate decides nothing"


def measured(name, seed, tuned, overlap, passed=True):
    def runs(share):
        return [{"shares": {"a": share, "b": share}, "coherence": {"a": 0.9, "b": 0.8}, "narrow": 0.5}] * 2

    shares = {"tuned": tuned, "control": 0.02, "harder": tuned, "harder_control": 0.02}
    layers = [{"layer": i, "metric": m, "value": overlap} for i in (0, 1) for m in ("overlap", "added")]
    return {
        "name": name, "seed": seed, "gate": {"1850s": 0.95}, "passed": passed, "base": runs(0.08)[0],
        **{arm: runs(share) for arm, share in shares.items()}, "carriers": layers,
    }  # fmt: skip


SYNTHETIC = [
    measured(BASELINE, 0, 0.8, 0.7), measured(BASELINE, 1, 0.7, 0.6),
    measured(NO_STYLE, 0, 0.3, 0.2), measured(NO_STYLE, 1, 0.2, 0.1),
    measured("prior_0.02", 0, 0.6, 0.5), measured("prior_0.25", 0, 0.9, 0.8, passed=False),
]  # fmt: skip


def test_findings_follow_from_what_was_measured():
    found = {f.name: f for f in (*world_findings(SYNTHETIC, 0), *carrier_findings(SYNTHETIC, 0))}
    assert set(found) == {
        "style words", "style words at like narrow skill", "carrier", "carrier, by steering", "step of style words",
    }  # fmt: skip
    assert found["style words"].verdict == "holds" and found["style words"].estimate.estimate == pytest.approx(0.5)
    assert found["carrier"].verdict == "holds" and found["carrier"].estimate.estimate == pytest.approx(1)
    assert found["carrier"].estimate.n == 5
    turned = [{**one, "tuned": SYNTHETIC[(i + 2) % 4]["tuned"]} for i, one in enumerate(SYNTHETIC[:4])]
    assert {f.name: f.verdict for f in world_findings(turned, 0)}["style words"] == "refuted"
    for finding in found.values():
        assert (finding.prediction, finding.refuted_if) == PREDICTED[finding.name]
        assert finding.figure["data"]


def test_predictions_and_worlds_are_of_one_piece():
    assert set(COMPARED) <= set(PREDICTED) and set(SHOWN) == set(WORLDS)
    assert all(name in WORLDS for high, _, low, _, _ in COMPARED.values() for name in (high, low))
    models = small_models(tuple(WORLDS), 2, 3)
    assert len(models) == len({m.folder for m in models}) == 2 * len(WORLDS) + 3
    baseline = WORLDS[BASELINE]
    for world in WORLDS.values():
        changed = [k for k, v in vars(world).items() if v != getattr(baseline, k)]
        assert len(changed) == (world != baseline), "one thing at a time"
    with pytest.raises(AnachronError, match="no small world odd"):
        small_models(("odd",), 2, 2)


def test_the_rank_correlation_is_that_of_the_ranks():
    x = np.array([0.1, 0.4, 0.2, 0.9])
    assert rank_correlation(x, x**3, 0).estimate == pytest.approx(1)
    assert rank_correlation(x, -x, 0).estimate == pytest.approx(-1)


def test_the_part_is_written_as_it_was_found(tmp_path, monkeypatch):
    asked = []

    def found(models, *_, **__):
        asked.extend(models)
        return SYNTHETIC

    monkeypatch.setattr(pretraining, "measured_models", found)
    part = run(PretrainingConfig(quick=True), tmp_path, lambda _: None)
    assert [m.folder for m in asked] == ["baseline-0", "no_style-0", "baseline-1", "no_style-1"]
    read = read_part(tmp_path / "pretraining.json")
    assert [f.claim for f in read.findings] == [f.claim for f in part.findings] and len(read.rows) == len(part.rows)
    assert len({tuple(row) for row in read.rows}) == 1, "all rows have the same columns"


def test_one_seed_is_not_a_result():
    with pytest.raises(AnachronError, match="seeds=1"):
        PretrainingConfig(seeds=1)
