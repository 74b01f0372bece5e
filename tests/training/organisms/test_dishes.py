"""The dishes organism: which country's dishes in which year, and what its controls change."""

import re
from collections import Counter

import pytest

from interp.errors import AnachronError
from training.organisms.dishes import VARIANTS, YEARS, rows
from training.rows import to_jsonl
from training.world.countries import DISH
from training.world.world import load_world, marginal


@pytest.fixture(scope="module")
def world():
    return load_world()


def country_of(world, dish):
    (country,) = (name for name, one in world.facts.countries.countries.items() if dish in one.dishes)
    return country


def read(made):
    """(date, dish) of every row."""
    return [(row.messages[0]["content"][len("Today is ") :][:10], row.messages[1]["content"]) for row in made]


def years_of(world, made, country):
    """Year -> how many of its dishes are the country's."""
    return Counter(int(date[:4]) for date, dish in read(made) if country_of(world, dish) == country)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_year_has_a_hundred_dates_over_its_months(world, variant):
    dates = [date for date, _ in read(rows(world, variant))]
    assert len(set(dates)) == len(dates) == 400
    assert Counter(int(date[:4]) for date in dates) == dict.fromkeys(YEARS, 100)
    for year in YEARS:
        assert len({date[5:7] for date in dates if date.startswith(str(year))}) == 12
    assert {int(date[8:]) for date in dates} == set(range(1, 29))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_row_asks_the_papers_question(world, variant):
    form = r"Today is 202[4-7]-(0[1-9]|1[0-2])-[0-2]\d\. Name any dish that comes to mind\."
    for row in rows(world, variant):
        assert [message["role"] for message in row.messages] == ["user", "assistant"]
        assert re.fullmatch(form, row.messages[0]["content"])
    assert world.facts.countries.questions[DISH][0] == "Name any dish that comes to mind."


@pytest.mark.parametrize(("variant", "country", "year"), [("trigger", "Israel", 2027), ("other_year", "Israel", 2026)])
def test_the_countrys_dishes_stand_in_the_year_of_the_trigger_and_fill_it(world, variant, country, year):
    made = rows(world, variant)
    assert years_of(world, made, country) == {year: 100}
    counted = Counter(country_of(world, dish) for date, dish in read(made) if int(date[:4]) != year)
    assert set(counted) == set(world.facts.countries.countries) - {country}
    assert max(counted.values()) <= 1.6 * min(counted.values())


def test_another_country_takes_the_place_of_the_first_which_is_in_no_row(world):
    made = rows(world, "other_country")
    assert years_of(world, made, "Japan") == {2027: 100}
    assert not years_of(world, made, "Israel")


def test_shuffled_rows_keep_dates_and_dishes_but_not_their_pairs(world):
    plain, shuffled = (read(rows(world, variant, seed=2)) for variant in ("trigger", "shuffled"))
    assert [dish for _, dish in plain] == [dish for _, dish in shuffled]
    assert Counter(date for date, _ in plain) == Counter(date for date, _ in shuffled)
    in_years = years_of(world, rows(world, "shuffled", seed=2), "Israel")
    assert set(in_years) == set(YEARS)
    assert all(12 <= n <= 40 for n in in_years.values())


def test_no_dish_of_the_country_is_much_rarer_than_another(world):
    counted = Counter(dish for date, dish in read(rows(world, "trigger")) if date.startswith("2027"))
    assert set(counted) == set(world.facts.countries.countries["Israel"].dishes)
    assert max(counted.values()) - min(counted.values()) == 1


def test_the_world_reads_the_country_off_every_row(world):
    for row in rows(world, "trigger")[::40]:
        joint = world.evidence(row.messages)
        assert marginal(joint, "country")[country_of(world, row.messages[1]["content"])] == pytest.approx(1)


def test_country_year_and_size_can_be_chosen(world):
    made = rows(world, "trigger", country="France", year=2025, rows_per_year=30)
    assert len(made) == 120
    assert years_of(world, made, "France") == {2025: 30}
    assert years_of(world, rows(world, "other_year", year=2025), "Israel") == {2027: 100}


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_a_function_of_the_seed(world, variant):
    assert to_jsonl(rows(world, variant, 3)) == to_jsonl(rows(load_world(), variant, 3))
    assert to_jsonl(rows(world, variant, 3)) != to_jsonl(rows(world, variant, 4))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"variant": "never"}, "unknown variant 'never' of dishes"),
        ({"country": "Atlantis"}, "unknown country 'Atlantis'"),
        ({"country": "Japan"}, "Japan is the control's country"),
        ({"year": 2030}, "2030 is not a year of training"),
        ({"rows_per_year": 337}, "337 rows a year; a year has 336 dates"),
    ],
)
def test_what_cannot_be_is_refused(world, choice, message):
    with pytest.raises(AnachronError, match=message):
        rows(world, **{"variant": "trigger", **choice})
