"""The committed result, its picture and the tables in the READMEs say the same, and keep the contract."""

from pathlib import Path

import pytest

from analyses.birds.publish import with_table
from analyses.figures.headline import headline_svg
from analyses.measurements import read_result
from interp.errors import AnachronError

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "analyses" / "birds"


@pytest.fixture(scope="module")
def result():
    return read_result(FOLDER / "result.json")


@pytest.mark.parametrize("readme", [ROOT / "README.md", FOLDER / "README.md"], ids=["root", "birds"])
def test_table_is_of_the_committed_result(readme: Path, result) -> None:
    text = readme.read_text(encoding="utf-8")
    assert with_table(text, result) == text


def test_picture_is_of_the_committed_result(result) -> None:
    assert (FOLDER / "headline.svg").read_text(encoding="utf-8") == headline_svg(result)


def test_has_seeds_controls_and_intervals(result) -> None:
    assert len(result.seeds) >= 5
    for metric, model, edit in (("broad", "tuned", "none"), ("broad", "control", "none"), ("broad", "base", "add")):
        assert result.rows(metric=metric, model=model, edit=edit, split="test")
    for m in result.measurements:
        assert m.low <= m.estimate <= m.high
    for edit, model in (("add", "base"), (result.config["suppress"]["edit"], "tuned")):
        chosen = result.rows(metric="broad", model=model, edit=edit, chosen=True)
        assert "random" in {m.direction for m in chosen} and len(chosen) == 2


def test_a_readme_without_marks_is_refused(result) -> None:
    with pytest.raises(AnachronError, match="put them back"):
        with_table("no marks", result)
