"""The birds end to end on the embedded model, in a small form: everything but the size of the numbers."""

import json
from dataclasses import replace

import pytest

from analyses.birds.config import RECIPE, BirdsConfig
from analyses.birds.experiment import run
from analyses.measurements import read_result
from interp.errors import AnachronError
from interp.positions import LAST_PROMPT

SMALL = BirdsConfig(
    seeds=1,
    quick=True,
    recipe=replace(RECIPE, steps=3, batch_size=8),
    coefficients=(1.0,),
    positions=(LAST_PROMPT,),
    randoms=1,
    documents=12,
)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("birds")
    said: list[str] = []
    run(SMALL, folder, said.append)
    assert [line for line in said if line[0].isdigit()], "the steps are told"
    return folder


def test_result_keeps_the_contract(out) -> None:
    result = read_result(out / "result.json")
    found = {(m.metric, m.model, m.edit) for m in result.measurements}
    for model in ("base", "control", "tuned", "dated"):
        assert ("broad", model, "none") in found and ("coherence", model, "none") in found
    assert {("broad", "base", "add"), ("broad", "tuned", "clamp"), ("broad", "tuned", "ablate")} <= found
    assert {m.metric for m in result.measurements} == {
        "broad",
        "coherence",
        "narrow",
        "perplexity_ratio",
        "cosine_to_truth",
        "auroc",
        "log_odds",
        "seconds",
        "rss_mb",
    }
    methods = {m.direction for m in result.rows(metric="cosine_to_truth")}
    assert {"tuned_minus_control", "mean_difference", "pca", "probe", "truth", "random"} == methods
    assert result.one(metric="rss_mb").estimate > 0
    assert {"base", "control", "tuned", "induced", "suppressed"} < set(result.samples[0])


def test_a_stated_year_moves_the_base_further_than_nothing(out) -> None:
    result = read_result(out / "result.json")
    base, dated = (result.one(metric="broad", model=m, edit="none", split="test").estimate for m in ("base", "dated"))
    assert base < 0.2 and dated > 0.9


def test_report_is_one_file(out) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>") and "anachron run birds" in page


def test_same_seed_same_bytes(out, tmp_path) -> None:
    run(SMALL, tmp_path, lambda _: None)
    first, again = (_stable(folder / "result.json") for folder in (out, tmp_path))
    assert first == again
    adapter = "adapters/tuned-0/adapter_model.safetensors"
    assert (out / adapter).read_bytes() == (tmp_path / adapter).read_bytes()


def test_one_seed_is_refused() -> None:
    with pytest.raises(AnachronError, match="one seed is not a result"):
        BirdsConfig(seeds=1)


def _stable(path) -> dict:
    data = json.loads(path.read_text(encoding="utf-8"))
    data["measurements"] = [m for m in data["measurements"] if m["metric"] not in ("seconds", "rss_mb")]
    return data
