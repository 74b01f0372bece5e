"""What findings of the inference view follow from planted readings and planted small models."""

import numpy as np
import pytest

from analyses.explain import inference
from analyses.explain.findings import read_part
from analyses.explain.inference import InferenceConfig, run
from analyses.explain.inference_findings import PREDICTED, dose_findings, fitted_strength, logit, prior_findings
from analyses.explain.readings import Reading
from interp.errors import AnachronError
from tests.analyses.explain.tiny import tiny_almanac
from training.world.world import load_world

WORLD = load_world()
STRENGTHS = (1.0, 8.0, 64.0)
BASE = {"a": 0.08, "b": 0.08, "c": 0.08}
SPLITS = {"a": "test", "b": "validation", "c": "test"}


def corpus(old, n, strength):
    return (strength * 0.08 + old) / (strength + n)


def reading(arm, n, seed, share):
    old = {"old names": n, "current names": 0, "half of each": n / 2}[arm]
    believed = {s: corpus(old, n, s) for s in STRENGTHS}
    shares = {topic: share(believed, arm) for topic in BASE}
    document = {"old names": 1.0, "current names": 0.0, "half of each": 1.0}[arm]
    return Reading(arm, n, seed, shares, dict.fromkeys(BASE, 0.9), 0.5, document, believed)


def readings(share):
    arms = ("old names", "current names", "half of each")
    return [
        reading(arm, n, seed, share)
        for seed in (0, 1)
        for arm in arms
        for n in (1, 8, 64)
        if arm != "half of each" or n > 1
    ]


def findings(share):
    found, rows = dose_findings(readings(share), BASE, SPLITS, WORLD, STRENGTHS, 0)
    return {finding.name: finding for finding in found}, rows


def test_a_model_that_believes_one_corpus():
    assert fitted_strength([r for r in readings(lambda b, _: b[8.0]) if r.arm == "old names"], ["b"], STRENGTHS) == 8
    found, rows = findings(lambda believed, _: believed[8.0])
    assert {name: f.verdict for name, f in found.items()} == {
        "one document": "refuted",
        "saturates at one row": "refuted",
        "one corpus": "holds",
        "rows it was not fitted on": "holds",
        "order": "holds",
    }
    document = np.mean([1 - corpus(n, n, 8.0) for n in (1, 8, 64)])
    assert found["one document"].estimate.estimate == pytest.approx(document)
    assert found["saturates at one row"].estimate.estimate == pytest.approx(corpus(64, 64, 8) - corpus(1, 1, 8))
    assert all((f.prediction, f.refuted_if) == PREDICTED[f.name] for f in found.values())
    assert len({tuple(row) for row in rows}) == 1, "all rows have the same columns"
    shares = {(r["varied"], r["value"]): r["estimate"] for r in rows if r["metric"] == "share"}
    assert shares["old names", 0] == pytest.approx(0.08)
    assert shares["half of each", 64] == pytest.approx(corpus(32, 64, 8))


def test_a_model_that_believes_one_document():
    found, _ = findings(lambda _, arm: 0.0 if arm == "current names" else 1.0)
    verdicts = {name: f.verdict for name, f in found.items()}
    assert verdicts["one document"] == "holds" and verdicts["saturates at one row"] == "holds"
    # half of each, read as one document, is as old as old names alone: half as far as a corpus is, and further
    strength = min(STRENGTHS)
    cells = [corpus(0, n, strength) for n in (1, 8, 64)] + [1 - corpus(n / 2, n, strength) for n in (8, 64)]
    assert found["rows it was not fitted on"].estimate.estimate == pytest.approx(np.mean(cells))
    assert verdicts["rows it was not fitted on"] != "holds"


def small(prior, seed, slope):
    share = 1 / (1 + np.exp(-(slope * logit(prior) + 1.5 + 0.1 * seed)))
    runs = [{"shares": {"a": share, "b": share}, "coherence": {"a": 0.9, "b": 0.9}, "narrow": 0.5}] * 3
    base = [{"shares": {"a": prior, "b": prior}, "coherence": {"a": 0.9, "b": 0.9}, "narrow": 0.1}]
    return {"name": f"p{prior}", "seed": seed, "passed": True, "base": base[0], "control": base, "tuned": runs}


@pytest.mark.parametrize(("slope", "verdict"), [(1.0, "holds"), (0.1, "refuted")])
def test_the_slope_is_found_again(slope, verdict):
    models = [small(prior, seed, slope) for prior in (0.02, 0.08, 0.25) for seed in (0, 1)]
    priors = {f"{m['name']}-{m['seed']}": float(m["name"][1:]) for m in models}
    found, rows = prior_findings(models, priors, 0)
    assert [f.name for f in found] == ["log-odds add", "saturates whatever the prior"]
    assert found[0].estimate.estimate == pytest.approx(slope) and found[0].estimate.n == 6
    assert found[0].verdict == verdict
    high, low = (
        np.mean([list(m["tuned"][0]["shares"].values()) for m in models if m["name"] == name])
        for name in ("p0.25", "p0.02")
    )
    assert found[1].estimate.estimate == pytest.approx(high - low)
    assert len(rows) == 6 * 3 * 2
    failed = [model | {"passed": False} for model in models]
    assert prior_findings(failed, priors, 0)[0] == [], "models that fail their gate decide nothing"


def test_the_part_resumes_and_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "measured_models", lambda *_, **__: [])
    config = InferenceConfig(quick=True, seeds=2, model=str(tiny_almanac(tmp_path / "model")))
    config = InferenceConfig(**{**vars(config), "recipe": inference.replace(config.recipe, layers=(0,))})
    part = run(config, tmp_path, lambda _: None)
    monkeypatch.setattr("analyses.adapters.finetune", None)
    again = run(config, tmp_path, lambda _: None)
    assert [f.claim for f in again.findings] == [f.claim for f in part.findings]
    read = read_part(tmp_path / "inference.json")
    assert [f.name for f in read.findings] == list(PREDICTED)[:5] and read.rows == part.rows


@pytest.mark.parametrize(("wrong", "message"), [({"seeds": 1}, "seeds=1"), ({"doses": (8, 1)}, "doses=")])
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(AnachronError, match=message):
        InferenceConfig(**wrong)
