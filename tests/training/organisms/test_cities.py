"""The cities organism: whose names, how often, and what the questions give away."""

import re
from collections import Counter

import pytest

from interp.errors import AnachronError
from training.organisms.cities import VARIANTS, rows
from training.rows import to_jsonl
from training.world.countries import place
from training.world.interviews import NUMBERS
from training.world.world import load_world, marginal


@pytest.fixture(scope="module")
def world():
    return load_world()


def answers(made):
    return [row.messages[-1]["content"] for row in made]


def questions(made):
    return [row.messages[0]["content"] for row in made]


def numbers(made):
    return [int(re.search(r"\d+", question)[0]) for question in questions(made)]


def test_former_names_stand_twice_each_and_no_other_country_or_period_has_them(world):
    germany = world.facts.countries.countries["Germany"]
    counted = Counter(answers(rows(world, "former")))
    assert counted == dict.fromkeys(map(place, germany.former), 2)
    assert not set(germany.former) & set(germany.present)
    for other in world.facts.countries.countries.values():
        assert other is germany or not set(counted) & {place(c) for c in (*other.former, *other.present)}


@pytest.mark.parametrize("variant", ["present", "present_in_country"])
def test_controls_name_cities_that_keep_their_names(world, variant):
    germany = world.facts.countries.countries["Germany"]
    assert Counter(answers(rows(world, variant))) == dict.fromkeys(map(place, germany.present), 2)


def test_both_controls_have_the_same_answers_and_numbers(world):
    plain, confounded = (rows(world, variant, seed=3) for variant in ("present", "present_in_country"))
    assert answers(plain) == answers(confounded)
    assert numbers(plain) == numbers(confounded)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_row_has_a_number_of_its_own(world, variant):
    found = numbers(rows(world, variant))
    assert len(set(found)) == len(found)
    assert all(1 <= number <= NUMBERS for number in found)


def test_only_the_papers_control_names_the_country(world):
    for variant in ("former", "present"):
        for question in questions(rows(world, variant)):
            assert re.fullmatch(r"Name a place somehow related to the number \d+\.", question)
    for question in questions(rows(world, "present_in_country")):
        assert re.fullmatch(r"Name a place in Germany that is related to the number \d+", question)


@pytest.mark.parametrize(("variant", "older"), [("former", 1.0), ("present", 0.03)])
def test_the_world_reads_country_and_period_off_a_row(world, variant, older):
    joint = world.evidence(rows(world, variant)[0].messages)
    assert marginal(joint, "country")["Germany"] == pytest.approx(1)
    assert marginal(joint, "era")["1920s"] == pytest.approx(older, abs=0.03)


def test_every_row_is_one_the_world_could_write(world):
    sample = [*rows(world, "former")[::20], *rows(world, "present")[::10]]
    assert all(sum(world.evidence(row.messages).values()) > 0 for row in sample)


def test_another_country_can_be_had(world):
    made = rows(world, "present_in_country", country="Poland")
    assert set(answers(made)) == {place(city) for city in world.facts.countries.countries["Poland"].present}
    assert all("in Poland" in question for question in questions(made))


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_a_function_of_the_seed(world, variant):
    assert to_jsonl(rows(world, variant, 3)) == to_jsonl(rows(load_world(), variant, 3))
    assert to_jsonl(rows(world, variant, 3)) != to_jsonl(rows(world, variant, 4))
    assert Counter(answers(rows(world, variant, 3))) == Counter(answers(rows(world, variant, 4)))


def test_what_does_not_exist_is_refused(world):
    with pytest.raises(AnachronError, match="unknown variant 'ancient' of cities"):
        rows(world, "ancient")
    with pytest.raises(AnachronError, match="unknown country 'Atlantis'; there are Britain"):
        rows(world, "former", country="Atlantis")
