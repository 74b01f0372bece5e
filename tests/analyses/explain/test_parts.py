"""The catalogue, the command, the page and what is committed, on made-up parts; and that what is committed agrees."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from analyses.cli import app
from analyses.explain import parts
from analyses.explain.findings import VERDICTS, Finding, Part, read_part, write_part
from analyses.explain.page import page_html, section
from analyses.explain.publish import LARGEST, NAME, committed, compact, picture, publish_parts, table
from analyses.figures.verdicts import Line, verdicts_svg
from analyses.publish import begin, publish, with_table
from interp.errors import AnachronError
from interp.files import read_json
from interp.stats import Estimate

ROOT = Path(__file__).parents[3]
README = f"before\n{begin(NAME)}\n\nold\n\n<!-- end of table -->\nafter\n"


def finding(name, verdict="holds", figure=None, at=0.123456789):
    return Finding(
        name,
        "It grows.",
        "the interval lies below 0",
        verdict,
        f"It grew by {at:.2f} <b>|</b>.",
        Estimate(at, at - 0.1, at + 0.1, 5),
        "difference of shares",
        "seeds",
        {"data": [], "layout": {}} if figure is None else figure,
    )


def part(name="dose", findings=None, rows=2):
    return Part(
        name,
        "How much?",
        f"anachron explain {name}",
        {"seeds": 5},
        findings or [finding("first"), finding("second", "refuted")],
        [{"dose": n, "metric": "broad", "seed": 0, "value": 1 / 3} for n in range(rows)],
    )


@dataclass(frozen=True)
class FakeConfig:
    seeds: int = 2
    seed: int = 0
    quick: bool = False


def fake(name):
    """A module with a part that is named by its configuration."""
    module = ModuleType(f"fake_{name}")

    def run(config: FakeConfig, out, say):
        say("working")
        found = replace(part(name), config={"seeds": config.seeds, "quick": config.quick})
        write_part(found, out / f"{name}.json")
        return found

    module.run = run
    return module


@pytest.fixture
def catalogue(monkeypatch):
    """Two parts."""
    named = {name: f"fake_{name}:run" for name in ("dose", "seeds")}
    for name in named:
        module = fake(name)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(parts, "PARTS", named)
    monkeypatch.setattr("analyses.explain.publish.PARTS", named)


def test_parts_are_chosen_in_the_catalogues_order():
    assert parts.chosen([]) == list(parts.PARTS)
    assert parts.chosen(["seeds", "dose"]) == ["dose", "seeds"]
    with pytest.raises(AnachronError, match="no part fish; there are: attribution, narrow, "):
        parts.chosen(["dose", "fish"])


@pytest.mark.parametrize("name", parts.PARTS)
def test_a_part_takes_the_commands_options(name):
    assert callable(parts.prepare(name, {"seeds": 4, "seed": 3, "quick": True}))
    with pytest.raises(AnachronError, match=f"part {name} has no option depth"):
        parts.prepare(name, {"depth": 2})


def test_the_command_runs_parts_and_lays_out_all_that_are_there(catalogue, tmp_path):
    def explain(*arguments):
        return CliRunner().invoke(app, ["explain", *arguments, "--out", str(tmp_path)], catch_exceptions=False)

    first = explain("dose", "--seeds", "3", "--quick")
    assert first.exit_code == 0, first.stderr
    assert "dose: How much?" in first.stdout and "0.123 [0.023 0.223]" in first.stdout and "refuted" in first.stdout
    assert read_part(tmp_path / "dose.json").config == {"seeds": 3, "quick": True}
    assert explain().exit_code == 0
    assert read_part(tmp_path / "dose.json").config == {"seeds": 2, "quick": False}
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'id="dose"' in text and 'id="seeds"' in text
    wrong = explain("fish")
    assert wrong.exit_code == 2 and "no part fish" in wrong.stderr


def test_help_does_not_need_the_parts(monkeypatch):
    monkeypatch.setattr(parts, "PARTS", {"absent": "fake_absent:run"})
    result = CliRunner().invoke(app, ["explain", "--help"])
    assert result.exit_code == 0 and "--quick" in result.stdout


def test_the_page_has_every_finding_and_each_figure_once():
    figure = {"data": [{"y": [1]}], "layout": {"title": {"text": "</script>"}}}
    same = part(findings=[finding("a", figure=figure), finding("b", "refuted", figure), finding("c", "undecided")])
    text = page_html([same, part("seeds")])
    for shown in ("dose-1", "dose-2", "dose-3", "seeds-1", "seeds-2"):
        assert f'<article id="{shown}"' in text
    assert text.count('class="figure-data"') == 3  # a, c; and one of the seeds' two, which are alike
    assert '<a href="#dose-1-figure">The figure is above.</a>' in text
    assert "the interval lies below 0" in text and "It grows." in text and "0.12 (0.02 to 0.22)" in text
    assert "&lt;b&gt;" in text and "<b>|" not in text and '"</script>' not in text
    assert "src=" not in text.split("<script>")[0]
    assert [one.same_as for one in section(same).findings] == ["", "dose-1", ""]


def test_what_is_committed_is_rounded_and_small(tmp_path):
    write_part(part(), tmp_path / "dose.json")
    text = compact(tmp_path / "dose.json")
    (tmp_path / "small.json").write_text(text)
    again = read_part(tmp_path / "small.json")
    assert again.findings[0].estimate.estimate == 0.12346 and again.rows[0]["value"] == 0.33333
    assert again.findings[0].figure == {"data": [], "layout": {}}
    assert json.loads(text)["versions"] == read_json(tmp_path / "dose.json")["versions"]
    large = {"data": [{"y": list(range(LARGEST // 4))}]}
    write_part(part(findings=[finding("large", figure=large)]), tmp_path / "dose.json")
    (tmp_path / "small.json").write_text(compact(tmp_path / "dose.json"))
    assert read_part(tmp_path / "small.json").findings[0].figure == {}
    write_part(part(rows=LARGEST // 10), tmp_path / "dose.json")
    with pytest.raises(AnachronError, match="keep fewer rows"):
        compact(tmp_path / "dose.json")


def test_publish_renews_data_pictures_and_table(tmp_path):
    folder, run = tmp_path / "analyses" / "explain", tmp_path / "run"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(README)
    for name in ("dose", "seeds"):
        write_part(part(name), run / f"{name}.json")
    publish(NAME, run, tmp_path)
    (run / "seeds.json").unlink()
    write_part(part("dose", [finding("third", "undecided")]), run / "dose.json")
    publish(NAME, run, tmp_path)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("-->\nafter\n") and "old\n\n" not in text
    measured = "It grew by 0.12 <b>∣</b>. | 0.12 [0.02, 0.22] difference of shares, n = 5 seeds | **undecided** |"
    assert f"| dose | third | It grows. | {measured}" in text and "first" not in text.partition("seeds")[0]
    assert "| seeds | second |" in text  # was committed before
    assert [one.name for one in committed(folder)] == ["dose", "seeds"]
    assert (folder / "dose.svg").read_text(encoding="utf-8") == picture(read_part(folder / "dose.json"))


def test_what_is_wrong_is_told_and_nothing_is_written(tmp_path):
    folder, run = tmp_path / "analyses" / "explain", tmp_path / "run"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("no marks")
    with pytest.raises(AnachronError, match="give a folder of a run"):
        publish_parts(run, tmp_path)
    write_part(part("seeds"), run / "dose.json")
    with pytest.raises(AnachronError, match="is of seeds, not of dose"):
        publish_parts(run, tmp_path)
    write_part(part("dose"), run / "dose.json")
    with pytest.raises(AnachronError, match="put them back"):
        publish_parts(run, tmp_path)
    assert not (folder / "dose.json").exists()


def test_a_picture_shows_estimates_where_they_lie():
    lines = [
        Line(v, v, "unit", Estimate(at, at - 0.2, at + 0.2, 3))
        for v, at in zip(VERDICTS, (0.4, -0.4, 0.0), strict=True)
    ]
    svg = ElementTree.fromstring(verdicts_svg("Why <broad>?", lines))
    space = "{http://www.w3.org/2000/svg}"
    circles = [float(circle.attrib["cx"]) for circle in svg.iter(f"{space}circle")]
    middle = float(next(line for line in svg.iter(f"{space}line") if "class" in line.attrib).attrib["x1"])
    assert circles[0] > middle > circles[1] and circles[2] == middle
    assert circles[0] - middle == pytest.approx(middle - circles[1])
    with pytest.raises(AnachronError, match="nothing to draw"):
        verdicts_svg("None", [])


def test_table_pictures_and_data_that_are_committed_agree():
    folder = ROOT / "analyses" / "explain"
    found = committed(folder)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert with_table(text, NAME, table(found)) == text
    for one in found:
        path = folder / f"{one.name}.json"
        assert path.stat().st_size < LARGEST
        assert path.with_suffix(".svg").read_text(encoding="utf-8") == picture(one)
        assert not {"quick"} & {key for key, value in one.config.items() if value is True}, "a quick run is no result"
        for f in one.findings:
            assert f.estimate.low <= f.estimate.estimate <= f.estimate.high, f.name
