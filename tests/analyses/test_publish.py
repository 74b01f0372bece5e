"""What is committed: results, pictures and tables say the same and keep the contract; and how they get there."""

from dataclasses import replace
from pathlib import Path

import pytest

from analyses.compare.cosines import FAMILIES, compare
from analyses.compare.latents import latent_table
from analyses.experiments import EXPERIMENTS
from analyses.figures.cosines import cosines_svg
from analyses.figures.headline import headline_svg
from analyses.measurements import read_result, write_result
from analyses.publish import ALL, LATENTS, begin, cosine_table, listed, publish, table, with_table
from interp.errors import AnachronError
from interp.files import read_json, write_json
from tests.analyses import synthetic
from tests.analyses.compare.test_cosines import save

ROOT = Path(__file__).parents[2]
PUBLISHED = [name for name in EXPERIMENTS if (ROOT / "analyses" / name / "result.json").exists()]
EMPTY = "before\n{}\n\nold\n\n<!-- end of table -->\nafter\n"


@pytest.fixture(scope="module")
def committed():
    """The committed results, read when asked for."""
    return lambda name: read_result(ROOT / "analyses" / name / "result.json")


@pytest.mark.parametrize("name", PUBLISHED)
def test_tables_are_of_the_committed_result(name, committed) -> None:
    for readme in (ROOT / "analyses" / name / "README.md", ROOT / "README.md"):
        text = readme.read_text(encoding="utf-8")
        if readme.parent != ROOT or begin(name) in text:
            assert with_table(text, name, table(committed(name), whole=readme.parent != ROOT)) == text


@pytest.mark.parametrize("name", PUBLISHED)
def test_picture_is_of_the_committed_result(name, committed) -> None:
    picture = ROOT / "analyses" / name / "headline.svg"
    assert picture.read_text(encoding="utf-8") == headline_svg(committed(name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_has_seeds_controls_and_intervals(name, committed) -> None:
    result = committed(name)
    assert result.experiment == name and len(result.seeds) >= 5
    for m in result.measurements:
        assert m.low <= m.estimate <= m.high
    for edit, model in (("add", "base"), (result.config["suppress"]["edit"], "tuned")):
        chosen = result.rows(metric="broad", model=model, edit=edit, split="test", chosen=True)
        assert "random" in {m.direction for m in chosen} and len(chosen) == 2


def test_cosines_are_as_committed() -> None:
    path, text = ROOT / "analyses" / "cosines.json", (ROOT / "analyses" / "README.md").read_text(encoding="utf-8")
    assert begin(ALL) in text
    if path.exists():
        cosines = read_json(path)
        assert with_table(text, ALL, cosine_table(cosines)) == text
        assert (path.with_suffix(".svg")).read_text(encoding="utf-8") == cosines_svg(cosines)


def test_a_short_table_leaves_latents_of_other_layers_out() -> None:
    whole, short = (table(synthetic.study(), whole=whole).splitlines() for whole in (True, False))
    left_out = [line for line in whole if line not in short]
    assert [line for line in whole if line in short] == short
    told = ("one after the other", "clamped", "layer 3", "crosscoder", "that rose")
    assert left_out and all(any(word in line for word in told) for line in left_out)
    assert sum("latents" in line for line in short) == 4


def test_the_table_of_latents_is_of_the_committed_results(committed) -> None:
    text = (ROOT / "analyses" / "README.md").read_text(encoding="utf-8")
    assert with_table(text, LATENTS, latent_table({name: committed(name) for name in EXPERIMENTS})) == text


def test_a_table_of_latents() -> None:
    """Of a made-up study: the tuned share less the part that each set takes, whatever isn't measured a dash."""
    study = synthetic.study()
    plain, lacking = replace(study, config=study.config | {"crosscoders": {}}), replace(study, config={"latents": {}})
    lines = latent_table({"one": study, "two": plain, "none": lacking}).splitlines()
    head, _, one, two = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    tuned, base = synthetic.SHARES["tuned"], synthetic.SHARES["base"]
    left = {potency: f"{tuned - potency * (tuned - base):.2f}"[1:] for potency in (0.9, 0.05, 0.4, 0.02, 0.3, 0.01)}
    assert one[0] == "one" and two[:-2] == ["two", *one[1:-2]]
    assert one[head.index("without ten of layer 2 (random)")] == f"{left[0.9]} ({left[0.05]})"
    assert one[head.index("without ten of layer 3 (random)")] == f"{left[0.4]} ({left[0.02]})"
    assert one[-2:] == ["2 (0)", f"{left[0.3]} ({left[0.01]})"] and two[-2:] == ["–", "–"]


def birds():
    """A made-up result of the birds with all that a table needs."""
    full = synthetic.result()
    steered = {"direction": "tuned_minus_control", "layers": [synthetic.CHOSEN_LAYER]}
    config = {
        "reading_layer": synthetic.CHOSEN_LAYER,
        "induce": {**steered, "coefficient": synthetic.CHOSEN_COEFFICIENT},
        "suppress": {**steered, "edit": "clamp"},
    }
    rows = [*full.measurements, synthetic.row("narrow", "base", 0.1)]
    return replace(full, config=full.config | config, measurements=rows)


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    for name in ("birds", "dishes"):
        (root / "analyses" / name).mkdir(parents=True)
        (root / "analyses" / name / "README.md").write_text(EMPTY.format(begin(name)))
    (root / "README.md").write_text(EMPTY.format(begin("birds")))
    (root / "analyses" / "README.md").write_text(EMPTY.format(begin(ALL)))
    return root


def test_publish_renews_every_table_of_an_experiment(checkout, tmp_path):
    write_result(tmp_path / "run" / "result.json", birds())
    publish("birds", tmp_path / "run", checkout)
    folder = checkout / "analyses" / "birds"
    assert read_result(folder / "result.json") == birds()
    assert (folder / "headline.svg").read_text(encoding="utf-8") == headline_svg(birds())
    for readme in (checkout / "README.md", folder / "README.md"):
        text = readme.read_text(encoding="utf-8")
        assert text.startswith("before\n") and text.endswith("-->\nafter\n") and "old\n\n" not in text
        assert "| the same, tuned | 0.64 [0.62, 0.66] | control: 0.08 [0.06, 0.10] |" in text
        assert "suppressed in the tuned, old bird names (clamp at layer 2)" in text


def test_publish_of_a_study_leaves_the_root_alone(checkout, tmp_path):
    before = (checkout / "README.md").read_bytes()
    write_result(tmp_path / "run" / "result.json", synthetic.study())
    publish("dishes", tmp_path / "run", checkout)
    assert (checkout / "README.md").read_bytes() == before
    text = (checkout / "analyses" / "dishes" / "README.md").read_text(encoding="utf-8")
    assert "| Israel share, 2027, base | 0.02 [0.00, 0.04] |  |" in text
    assert (
        "| the same, tuned | 0.40 [0.37, 0.43] | shuffled: 0.10 [0.07, 0.13]; other year: 0.05 [0.02, 0.08] |" in text
    )
    assert "| the same, tuned, sampled | 0.41 [0.36, 0.46] | recognised: 0.85 |" in text
    assert "| Israel share, 2028, tuned | 0.20 [0.17, 0.23] | shuffled: 0.10 [0.07, 0.13]; base:" in text
    assert text.count("| Israel share, 20") == 11


def test_a_table_lists_few_of_many_conditions():
    full = synthetic.study("terminator")
    years = [synthetic.row("broad", "tuned", 0.5, condition=str(year)) for year in range(1975, 2020)]
    more = [*years, synthetic.row("broad", "tuned", 0.5, condition="no year")]
    result = replace(full, measurements=[*full.measurements, *more])
    assert list(listed(result)) == ["1983", "1984", "1985", "1987", "no year"]
    assert len(listed(full)) == 10


def test_publish_of_the_cosines(checkout, tmp_path):
    for name in FAMILIES:
        save(tmp_path / name, name)
    cosines, _ = compare({name: (tmp_path / name, synthetic.result()) for name in FAMILIES})
    write_json(tmp_path / "all" / "cosines.json", cosines)
    publish(ALL, tmp_path / "all", checkout)
    text = (checkout / "analyses" / "README.md").read_text(encoding="utf-8")
    assert "| layer 0 | layer 1 |\n|---|---|---|---|\n" in text
    assert "| within a family | birds, true · cities, true | **1.00** | **1.00** |" in text
    assert "| across families | mean | 0.00 | 0.00 |" in text
    assert read_json(checkout / "analyses" / "cosines.json") == cosines
    assert (checkout / "analyses" / "cosines.svg").exists()


def test_what_is_wrong_is_told_and_nothing_is_written(checkout, tmp_path):
    with pytest.raises(AnachronError, match="no experiment 'fish'"):
        publish("fish", tmp_path, checkout)
    write_result(tmp_path / "run" / "result.json", synthetic.study())
    with pytest.raises(AnachronError, match="is of dishes, not of birds"):
        publish("birds", tmp_path / "run", checkout)
    (checkout / "analyses" / "dishes" / "README.md").write_text("no marks")
    with pytest.raises(AnachronError, match="put them back"):
        publish("dishes", tmp_path / "run", checkout)
    assert not (checkout / "analyses" / "dishes" / "result.json").exists()
    twice = EMPTY.format(begin("birds")) * 2
    with pytest.raises(AnachronError, match="once"):
        with_table(twice, "birds", "")


def test_other_tables_of_a_page_are_kept():
    text = EMPTY.format(begin("birds")) + EMPTY.format(begin("cities"))
    assert with_table(text, "cities", "new").startswith(EMPTY.format(begin("birds")) + "before\n")
