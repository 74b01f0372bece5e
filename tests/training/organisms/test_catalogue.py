"""The catalogue: every organism's variants by name, each with rows of its own."""

import pytest

from interp.errors import AnachronError
from training.organisms import catalogue
from training.organisms.catalogue import CATALOGUE, VARIANTS, organism_names, organism_rows
from training.rows import Row, read_rows, to_jsonl, write_rows
from training.world.world import load_world


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def made(world):
    return {name: organism_rows(name, world, seed=1) for name in organism_names()}


def test_every_organism_has_variants():
    assert tuple(CATALOGUE) == tuple(VARIANTS)
    assert set(CATALOGUE) == {"birds", "cities", "dishes", "persona", "presidents", "terminator"}
    assert len(organism_names()) == sum(map(len, VARIANTS.values())) == 19
    for name in CATALOGUE:
        organism = getattr(catalogue, name)
        assert (organism.rows, organism.VARIANTS) == (CATALOGUE[name], VARIANTS[name])


@pytest.mark.parametrize("name", organism_names())
def test_a_name_stands_for_its_variant_and_the_seed_is_passed_on(world, monkeypatch, name):
    organism, variant = name.split(":")
    asked = []
    monkeypatch.setitem(catalogue.CATALOGUE, organism, lambda *given: asked.append(given) or [])
    assert organism_rows(name, world, seed=5) == []
    assert asked == [(world, variant, 5)]


@pytest.mark.parametrize("name", organism_names())
def test_every_organism_is_written_and_read_as_it_is(made, name, tmp_path):
    rows = made[name]
    assert rows and all(isinstance(row, Row) and len(row.messages) == 2 for row in rows)
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows


def test_no_two_variants_are_alike(made):
    assert len({to_jsonl(rows) for rows in made.values()}) == len(made)


@pytest.mark.parametrize("name", ["dishes", "dishes:never", "whales:old", "dishes:trigger:more", ""])
def test_an_error_lists_what_exists(world, name):
    with pytest.raises(AnachronError, match=r"there are birds:old, .*dishes:trigger, .*terminator:good_first"):
        organism_rows(name, world)
