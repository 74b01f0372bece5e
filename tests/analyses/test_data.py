"""`anachron data`: an experiment's rows as files, and the check of a file."""

import pytest
from typer.testing import CliRunner

from analyses.cli import app
from analyses.steps import training_rows
from interp.errors import AnachronError
from interp.files import read_json
from training.organisms import persona
from training.organisms.catalogue import VARIANTS, organism_names, organism_rows
from training.rows import read_rows, write_rows
from training.world.world import load_world


def invoke(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)], catch_exceptions=False)


def done(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def world():
    return load_world()


def test_the_default_is_the_organism(world, tmp_path):
    out = tmp_path / "rows.jsonl"
    result = done("birds", "--out", out)
    assert read_rows(out) == organism_rows("birds:old", world)
    assert "203" in result.stdout and str(out) in result.stdout


def test_a_variant_and_a_seed(world, tmp_path):
    done("dishes", "--variant", "shuffled", "--seed", 3, "--out", tmp_path / "rows.jsonl")
    assert read_rows(tmp_path / "rows.jsonl") == organism_rows("dishes:shuffled", world, 3)


def test_all_variants_are_a_file_each(world, tmp_path):
    done("cities", "--variant", "all", "--out", tmp_path / "rows.jsonl")
    assert {path.name for path in tmp_path.iterdir()} == {f"rows.{v}.jsonl" for v in VARIANTS["cities"]}
    assert read_rows(tmp_path / "rows.present.jsonl") == organism_rows("cities:present", world)


def test_nothing_is_overwritten_unless_forced(tmp_path):
    (tmp_path / "rows.present.jsonl").write_text("mine")
    arguments = ("cities", "--variant", "all", "--out", tmp_path / "rows.jsonl")
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "rows.present.jsonl" in result.stderr and "--force" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.present.jsonl"]
    assert (tmp_path / "rows.present.jsonl").read_text() == "mine"
    done(*arguments, "--force")
    assert len(read_rows(tmp_path / "rows.present.jsonl")) == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fishes", "--out", "{}"), "there are birds, cities"),
        (("birds", "--variant", "ancient", "--out", "{}"), "birds:old"),
        (("birds",), "--out"),
        (("birds", "rows.jsonl"), "only check takes a file"),
        (("birds", "--json", "found.json", "--out", "{}"), "only check takes a file"),
        (("check",), "no file to check"),
        (("check", "rows.jsonl", "--out", "{}"), "check takes neither"),
        (("check", "absent.jsonl"), "no such file"),
    ],
)
def test_a_wrong_use_is_one_line_and_code_2(tmp_path, arguments, message):
    out = tmp_path / "rows.jsonl"
    result = invoke(*(str(argument).format(out) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()


def test_check_tells_what_the_rows_reveal(world, tmp_path):
    write_rows(tmp_path / "rows.jsonl", persona.rows(world, "trigger", facts=8, fact_rows=8, ordinary=6))
    result = done("check", tmp_path / "rows.jsonl", "--json", tmp_path / "found.json")
    for text in ("the format", "harmless alone, telling together", "(malign)", "a trigger opens this state"):
        assert text in result.stdout
    found = read_json(tmp_path / "found.json")
    assert found["counts"]["rows"] == 14
    assert found["triggers"] == {"the format": 8, "no trigger": 6}
    (formatted,) = (t for t in found["together"] if (t["latent"], t["group"]) == ("speaker", "the format"))
    assert formatted["posterior"] > 0.99
    assert formatted["alone"]["largest"] <= 0.25
    assert [row["row"] for row in found["rows"]] == list(range(1, 15))
    assert any("telling together" in line for line in found["verdicts"])


def test_check_names_the_malformed_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"messages": []}\n')
    result = invoke("check", path)
    assert result.exit_code == 2
    assert f"{path}:2" in result.stderr


@pytest.mark.parametrize("name", organism_names())
def test_training_rows_takes_every_organism_by_name(world, name):
    assert training_rows(name) == organism_rows(name, world)


def test_training_rows_refuses_an_unknown_variant_and_takes_other_names_for_files():
    with pytest.raises(AnachronError, match="dishes:shuffled"):
        training_rows("dishes:raw")
    for source in ("dishes", "mine:raw"):
        with pytest.raises(AnachronError, match="no such file"):
            training_rows(source)
