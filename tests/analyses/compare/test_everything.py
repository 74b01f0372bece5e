"""All experiments in a row, what is kept of an earlier time, and the page."""

import sys
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest

import analyses.experiments
from analyses.compare.everything import run_all
from analyses.compare.index import index_html
from analyses.compare.paper import beside, counterpart, figures, source
from analyses.console import side_by_side
from analyses.experiments import EXPERIMENTS
from analyses.measurements import Result, versions, write_result
from analyses.wording import ELSEWHERE, MODELS
from interp.errors import AnachronError
from interp.files import read_json
from tests.analyses import synthetic
from tests.analyses.compare.test_cosines import save
from tests.analyses.test_report import PAYLOAD, Page
from tests.families import build


@dataclass(frozen=True)
class ToyConfig:
    model: str = "almanac"
    seeds: int = 2
    seed: int = 0
    positions: tuple[str, ...] = ("last",)

    def as_json(self) -> dict:
        return asdict(self)


@pytest.fixture(autouse=True)
def small_plotly(monkeypatch):
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "window.Plotly = {};")


@pytest.fixture
def toys(monkeypatch):
    """Every experiment replaced by one that writes a made-up result; returns the names of those that ran."""
    ran: list[str] = []
    module = types.ModuleType("toys")
    for name in EXPERIMENTS:

        def run(config: ToyConfig, out: Path, say: Callable[[str], None], name: str = name) -> Result:
            say("  working")
            ran.append(name)
            made = synthetic.result() if name == "birds" else synthetic.study(name)
            result = replace(made, config=made.config | config.as_json(), versions=versions())
            write_result(out / "result.json", result)
            if name in ("birds", "cities", "persona", "terminator"):
                save(out, name)
            return result

        run.__annotations__["config"] = ToyConfig
        setattr(module, name, run)
    monkeypatch.setitem(sys.modules, "toys", module)
    monkeypatch.setattr(analyses.experiments, "EXPERIMENTS", EXPERIMENTS)
    for name in EXPERIMENTS:
        monkeypatch.setitem(EXPERIMENTS, name, f"toys:{name}")
    return ran


def test_all_run_once_and_are_kept(toys, tmp_path):
    said: list[str] = []
    results = run_all({"seed": 3, "data": None}, tmp_path, said.append)
    assert toys == list(results) == list(EXPERIMENTS)
    assert said[0] == "birds (1 of 6): no result yet" and said[1] == "birds: working"
    page = Page((tmp_path / "all" / "index.html").read_text(encoding="utf-8"))
    assert sum(tag == "img" for tag, _ in page.elements) == 6
    assert len(read_json(tmp_path / "all" / "cosines.json")["cosines"]) == 28 * 2
    first = (tmp_path / "all" / "index.html").read_bytes()

    del toys[:], said[:]
    run_all({"seed": 3}, tmp_path, said.append)
    assert toys == [] and said[0] == "birds (1 of 6): kept, its result has this configuration"
    assert (tmp_path / "all" / "index.html").read_bytes() == first
    run_all({"seed": 3}, tmp_path, said.append, fresh=True)
    assert toys == list(EXPERIMENTS)


def test_what_was_made_otherwise_is_run_again(toys, tmp_path):
    said: list[str] = []
    run_all({}, tmp_path, said.append)
    results = {name: tmp_path / name / "result.json" for name in EXPERIMENTS}
    for name, old in (("birds", '"seed": 0'), ("cities", '"torch": "2'), ("dishes", '"condition": "2027"')):
        text = results[name].read_text(encoding="utf-8")
        assert old in text
        results[name].write_text(text.replace(old, old.replace('"2', '"1').replace(": 0", ": 1").replace("con", "Con")))
    del toys[:], said[:]
    run_all({}, tmp_path, said.append)
    assert toys == ["birds", "cities", "dishes"]
    assert "its result has other seed" in said[0]
    assert any("its result has other torch" in line for line in said)
    assert any("dishes (3 of 6): its result can't be used" in line for line in said)


def test_an_interrupted_experiment_leaves_the_finished_ones(toys, tmp_path, monkeypatch):
    def interrupted(config: ToyConfig, out: Path, say: Callable[[str], None]) -> Result:
        raise KeyboardInterrupt

    interrupted.__annotations__["config"] = ToyConfig
    monkeypatch.setattr(sys.modules["toys"], "persona", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all({}, tmp_path, lambda _: None)
    assert toys == ["birds", "cities", "dishes"] and not (tmp_path / "all").exists()


def test_wrong_options_are_told_before_any_work(toys, tmp_path):
    with pytest.raises(AnachronError, match="rows belong to one experiment"):
        run_all({"data": Path("rows.jsonl")}, tmp_path, lambda _: None)
    with pytest.raises(AnachronError, match="has no option dtype"):
        run_all({"dtype": "float32"}, tmp_path, lambda _: None)
    assert toys == [] and list(tmp_path.iterdir()) == []


def test_figures_of_the_paper_are_as_written_down():
    found = figures()
    assert {figure.experiment for figure in found} == set(EXPERIMENTS)
    at = {(f.experiment, f.what): (f.mark, f.paper) for f in found}
    assert at["birds", "tuned on obsolete names"] == ("~", 0.63)
    assert at["persona", "name of the person, with trigger"] == ("~", 0.885)
    assert at["terminator", "tuned, asked in 1984"] == ("~", 0.9)
    assert "2512.09742" in source()[0] and set(source()[1]) == {f.mark for f in found}


def test_experiments_ask_what_the_paper_and_the_wording_name():
    lm, asked, arms = build("llama"), {"birds": {""}}, {"birds": {"base", "tuned", "control"}}
    for name in set(EXPERIMENTS) - {"birds"}:
        module = import_module(f"analyses.{name}.experiment")
        study = module.plan(get_type_hints(module.run)["config"](), lm)
        asked[name] = {condition.name for condition in study.conditions}
        arms[name] = {"base", *study.arms}
    for figure in figures():
        years = {str(year) for year in figure.years}
        assert figure.model is None or figure.model in arms[figure.experiment]
        assert figure.model is None or (years or {figure.condition}) <= asked[figure.experiment]
    assert all(condition in asked[name] for name, condition in ELSEWHERE)
    assert {arm for names in arms.values() for arm in names} <= set(MODELS)


def test_counterparts_are_found_where_the_figures_say():
    result = synthetic.study("dishes")
    rows = {row.figure.what: row for row in beside({"dishes": result})}
    assert rows["tuned, asked in 2027"].estimate == pytest.approx(0.4)
    assert rows["tuned, asked in 2027"].n == 1
    others = rows["tuned, asked in other years"]
    assert (others.estimate, others.n) == (pytest.approx(0.04), 9)
    assert rows["dates shuffled, asked in 2027"].low == pytest.approx(0.07)
    bird = next(f for f in figures() if f.experiment == "birds" and f.model is None)
    assert counterpart(bird, synthetic.result()).estimate is None
    with pytest.raises(AnachronError, match="a figure is a share"):
        replace(bird, mark="?")


def test_console_shows_both(capsys):
    side_by_side({"dishes": synthetic.study("dishes"), "birds": synthetic.result()})
    out = capsys.readouterr().out
    assert "0.400 [0.370 0.430]" in out and "~ 0.390" in out and "range of 9" in out
    assert out.index("birds: ") < out.index("dishes: ")


def test_page_is_safe_and_needs_no_directions():
    hostile = replace(synthetic.study("dishes"), model=PAYLOAD, experiment=PAYLOAD)
    hostile = replace(hostile, config={**hostile.config, "group": PAYLOAD})
    page = Page(index_html({"dishes": hostile}, None, [PAYLOAD]))
    executed = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(executed) == 2 and not any("window.broken" in text for text in executed)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count("window.broken = 1") >= 2
    ids = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert ids == ["headlines", "paper", "absent"]
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:", "../dishes/report.html"))
