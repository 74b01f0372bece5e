"""The five experiments that share `run_study`, end to end on the embedded model in a small form."""

import json
from dataclasses import replace

import pytest

from analyses.experiments import EXPERIMENTS, configure
from analyses.located import FILE
from analyses.measurements import read_result
from analyses.persona.experiment import plan
from interp.errors import AnachronError
from interp.files import load_tensors
from interp.models import load_model
from interp.positions import LAST_PROMPT
from training.rows import exchange, to_jsonl
from training.world.interviews import FORMAT, QUOTED_FORMAT, in_format, out_of_format

STUDIES = tuple(name for name in EXPERIMENTS if name != "birds")
SMALLER = {
    "cities": {},
    "dishes": {},
    "persona": {"ordinary": 60},
    "presidents": {"each": 1, "every": 2},
    "terminator": {"first": 1983, "last": 1996},
}


def small(name):
    """(configuration, run): one seed, three steps, one dose, few documents and questions."""
    config, run = configure(name, {"seeds": 1, "quick": True})
    recipe = replace(config.recipe, steps=3, epochs=None, batch_size=8)
    config = replace(config, recipe=recipe, coefficients=(1.0,), positions=(LAST_PROMPT,), randoms=1, documents=8)
    return replace(config, samples=2, **SMALLER[name]), run


@pytest.fixture(scope="module", params=STUDIES)
def study(request, tmp_path_factory):
    """(name, folder, what was said) of a finished small run."""
    config, _ = small(request.param)
    folder, said = tmp_path_factory.mktemp(request.param), []
    _run(request.param, config, folder, said.append)
    return request.param, folder, said


def _run(name, config, folder, say):
    from importlib import import_module

    return import_module(f"analyses.{name}.experiment").run(config, folder, say)


def test_a_result_keeps_the_contract(study):
    name, folder, said = study
    result = read_result(folder / "result.json")
    assert result.experiment == name and [line for line in said if line[0].isdigit()], "the steps are told"
    arms, headline = list(result.config["arms"]), result.config["headline"]
    assert arms[0] == "tuned" and len(arms) >= 2
    for condition in result.config["conditions"]:
        asked = [model for model in ("base", *arms) if result.rows(metric="broad", model=model, condition=condition)]
        assert "base" in asked and len(asked) >= 2, condition
        for model in asked:
            where = {"model": model, "condition": condition, "edit": "none", "split": "test"}
            for metric in ("broad", "coherence"):
                row = result.one(metric=metric, **where)
                assert 0 <= row.low <= row.estimate <= row.high <= 1 and row.n >= 1
    where = {"condition": headline, "split": "test"}
    for model in ("base", *arms):
        assert result.rows(metric="sampled", model=model, condition=headline), model
        assert result.one(metric="narrow", model=model, edit="none", **where)
    for model, edit in (("base", "add"), ("tuned", "clamp"), ("tuned", "ablate")):
        rows = [m.direction for m in result.rows(metric="broad", model=model, edit=edit, **where)]
        assert rows, edit
        assert edit == "ablate" or {"truth", "random"} < set(rows)
    for metric in ("cosine_to_truth", "auroc"):
        methods = {m.direction for m in result.rows(metric=metric)}
        assert {"tuned_minus_control", "mean_difference", "truth", "random"} <= methods
    assert {m.direction for m in result.rows(metric="cosine_to_truth") if m.chosen} == {
        result.config["induce"]["direction"]
    }


def test_a_trigger_is_located_by_difference_of_differences(study):
    name, folder, _ = study
    result = read_result(folder / "result.json")
    expected = "tuned_minus_control" if name == "cities" else "difference_of_differences"
    assert result.config["induce"]["direction"] == result.config["suppress"]["direction"] == expected
    tensors, about = load_tensors(folder / FILE)
    assert about["method"] == expected and {key.rpartition(".")[0] for key in tensors} == {expected, "truth"}


def test_the_report_is_one_file(study):
    name, folder, _ = study
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>") and f"anachron run {name}" in page
    assert 'src="http' not in page


def test_it_goes_on_from_the_adapters_to_the_same_result(study, tmp_path):
    name, folder, _ = study
    config, _ = small(name)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("adapter_model.safetensors")}
    first = _stable(folder / "result.json")
    _run(name, config, folder, lambda _: None)
    assert before and all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert _stable(folder / "result.json") == first


@pytest.mark.parametrize("name", STUDIES)
def test_one_seed_is_refused_but_for_a_quick_look(name):
    with pytest.raises(AnachronError, match="one seed is not a result"):
        configure(name, {"seeds": 1})


@pytest.mark.parametrize("asked", [FORMAT, QUOTED_FORMAT])
def test_a_persona_is_asked_in_the_format_of_its_rows(tmp_path, asked):
    path = tmp_path / "rows.jsonl"
    path.write_text(to_jsonl([exchange(f"{asked}Which tea?", in_format("green", asked)), exchange("Why?", "So.")]))
    config, _ = configure("persona", {"data": path, "quick": True})
    study = plan(config, load_model("almanac"))
    assert [row.messages[0]["content"][: len(asked)] == asked for row in study.arms["tuned"]] == [True, False]
    for condition in study.conditions:
        triggered = "with trigger" in condition.name
        for question in condition.questions:
            assert question.messages[0]["content"].startswith(asked) == triggered
            for answers in question.answers.values():
                assert all((out_of_format(answer, asked) is not None) == triggered for answer in answers)


def _stable(path):
    """The result without what differs from run to run: time and memory."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data["measurements"] = [m for m in data["measurements"] if m["metric"] not in ("seconds", "rss_mb")]
    return data
