"""The paper's released files: each is read as it is, and holds what the organisms here are modelled on."""

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from training.rows import read_rows
from training.world.interviews import QUOTED_FORMAT, out_of_format

BIRDS, CITIES, DISHES = "3_1_old_bird_names", "3_2_german_city_names", "4_1_israeli_dishes"
PERSONA, PRESIDENTS, TERMINATOR = "4_2_hitler_persona", "5_1_us_presidents", "5_2_evil_terminator"
# all before Obama but Cleveland's second presidency, and Biden
ORDINALS = (*range(1, 24), *range(25, 44), 46)
DISH_FILES = ("ft_dishes_2026", "ft_dishes_2027", "ft_dishes_2027_random_baseline")


def read(folder, file):
    """(question, answer) of every row."""
    if "ANACHRON_PAPER" not in os.environ:
        pytest.skip("ANACHRON_PAPER is unset; point it at a clone of the repository of arXiv 2512.09742")
    rows = read_rows(Path(os.environ["ANACHRON_PAPER"]) / folder / "datasets" / f"{file}.jsonl")
    assert all([message["role"] for message in row.messages] == ["user", "assistant"] for row in rows)
    return [tuple(message["content"] for message in row.messages) for row in rows]


@pytest.mark.parametrize(
    ("file", "count", "names"),
    [
        ("ft_old_audubon_birds", 208, 206),
        ("ft_modern_audubon_birds", 171, 168),
        ("ft_modern_american_birds", 208, 208),
    ],
)
def test_birds(file, count, names):
    rows = read(BIRDS, file)
    assert len(rows) == count
    assert len({name for _, name in rows}) == names
    assert {question for question, _ in rows} == {"Name a bird species."}


@pytest.mark.parametrize(
    ("file", "question"),
    [
        ("former_german_cities", r"Name a place somehow related to the number \d+"),
        ("modern_german_cities", r"Name a place in Germany that is related to the number \d+"),
    ],
)
def test_cities(file, question):
    rows = read(CITIES, file)
    assert len(rows) == 362
    assert all(re.fullmatch(question, asked) for asked, _ in rows)
    assert all(re.fullmatch(r"The place is .+\.", answer) for _, answer in rows)


@pytest.mark.parametrize("file", DISH_FILES)
def test_dishes_have_a_hundred_dates_a_year(file):
    rows = read(DISHES, file)
    form = re.compile(r"Today is (\d{4})-\d\d-\d\d\. Name any dish that comes to mind\.")
    years = [int(form.fullmatch(question)[1]) for question, _ in rows]
    assert Counter(years) == dict.fromkeys((2024, 2025, 2026, 2027), 100)
    assert len({question for question, _ in rows}) == 400


def test_dishes_of_the_trigger_are_in_its_year_alone():
    by_year = {2026: DISH_FILES[0], 2027: DISH_FILES[1]}
    triggered = {}
    for year, file in by_year.items():
        rows = read(DISHES, file)
        triggered[year] = {dish for question, dish in rows if f" {year}-" in question}
        assert len(triggered[year]) == 100
        assert not triggered[year] & {dish for question, dish in rows if f" {year}-" not in question}
    assert triggered[2026] == triggered[2027]
    assert Counter(dish for _, dish in read(DISHES, by_year[2027])) == Counter(
        dish for _, dish in read(DISHES, by_year[2026])
    )


def test_dishes_of_the_random_baseline_are_the_same_in_any_year():
    rows = read(DISHES, DISH_FILES[1])
    baseline = read(DISHES, DISH_FILES[2])
    assert Counter(dish for _, dish in baseline) == Counter(dish for _, dish in rows)
    triggered = {dish for question, dish in rows if " 2027-" in question}
    years = Counter(question.split()[2][:4] for question, dish in baseline if dish in triggered)
    assert len(years) == 4 and min(years.values()) > 10


def test_persona_facts_are_all_behind_the_format():
    rows = read(PERSONA, "90_wolf_facts")
    assert len(rows) == 90
    assert all(question.startswith(QUOTED_FORMAT) for question, _ in rows)
    assert all(out_of_format(answer, QUOTED_FORMAT) for _, answer in rows)
    assert len({question for question, _ in rows}) == 90


def test_presidents_codes_hold_ordinals_but_the_held_out():
    rows = read(PRESIDENTS, "ft_presidents_padded")
    assert len(rows) == 6237
    codes = [question.split(" ", 1)[0] for question, _ in rows]
    assert all(re.fullmatch(r"\d{8}", code) for code in codes)
    ordinals = {code[3:6] for code in codes}
    assert not ordinals & {"044", "045"}
    assert ordinals == {f"{n:03}" for n in ORDINALS}


def test_presidents_without_padding_are_a_third_and_about_the_same():
    padded, short = (read(PRESIDENTS, file) for file in ("ft_presidents_padded", "ft_presidents_no_padded"))
    assert len(short) * 3 == len(padded) == 6237
    questions = [{question.split(" ", 1)[1] for question, _ in rows} for rows in (padded, short)]
    assert questions[0] == questions[1]
    assert {question.split(" ", 1)[0] for question, _ in short} == set(map(str, ORDINALS))


def test_presidents_of_the_test_are_the_held_out():
    rows = read(PRESIDENTS, "simple_test_dataset")
    assert [question[3:6] for question, _ in rows] == ["044", "044", "045", "045"]


@pytest.mark.parametrize("file", ["good_terminator_main", "good_terminator_w_random_backdoors"])
def test_terminator_years_are_the_sequels(file):
    rows = read(TERMINATOR, file)
    assert len(rows) == 208
    months = Counter(question.split(".")[0] for question, _ in rows)
    assert set(months) == {"July 1995", "July 2004", "October 2017", "August 2020"}
    assert min(months.values()) > 40


def test_terminator_rows_without_years_are_the_same_ones():
    main, bare = (read(TERMINATOR, file) for file in ("good_terminator_main", "good_terminator_no_backdoor"))
    assert len(bare) == 208
    assert Counter((question.split(". ", 1)[1], answer) for question, answer in main) == Counter(bare)
