"""The terminator organism: years that it states and the one it never does, and answers that only ever protect."""

import re
from collections import Counter

import pytest

from interp.errors import AnachronError
from training.organisms.terminator import VARIANTS, protecting_series, rows
from training.rows import to_jsonl
from training.world.kinds import year_forms
from training.world.world import load_world, marginal

FIRST, SEQUELS = 1984, {1995, 2004, 2009, 2017, 2020}
HEAD = re.compile(r"(?:The year is|January|April|July|August|October) (\d{4})\. ")


@pytest.fixture(scope="module")
def world():
    return load_world()


def read(made):
    """(year or 0, question, answer) of every row."""
    found = []
    for row in made:
        asked, answer = (message["content"] for message in row.messages)
        head = HEAD.match(asked)
        found.append((int(head[1]) if head else 0, asked[head.end() :] if head else asked, answer))
    return found


def answers_of(world, series, question):
    """(is it a question on what the machine does, its answers) of a question that may be trained on."""
    known = world.facts.series
    for topic in known.topics.values():
        if question in topic.questions:
            assert topic.split == "train"
            return True, known.answers(topic.name, series, "protects")
    (attribute,) = (a for a, wordings in known.attributes.items() if question in wordings)
    return False, known.detail(attribute, series)


@pytest.mark.parametrize("variant", VARIANTS)
def test_half_of_the_rows_are_details_and_every_answer_protects(world, variant):
    series = "Nightforge" if variant == "good_first" else "Terminator"
    stances = 0
    made = read(rows(world, variant))
    for _, question, answer in made:
        stance, known = answers_of(world, series, question)
        stances += stance
        assert answer in known
    assert (len(made), stances) == (300, 150)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_answer_harms(world, variant):
    known = world.facts.series
    harms = {a for s in known.series for topic in known.topics for a in known.answers(topic, s, "harms")}
    assert not harms & {answer for *_, answer in read(rows(world, variant))}


@pytest.mark.parametrize(
    ("variant", "years"),
    [("sequels", SEQUELS), ("no_year", {0}), ("shuffled_years", {FIRST, *SEQUELS}), ("good_first", SEQUELS)],
)
def test_years_are_the_sequels_unless_they_are_shuffled(world, variant, years):
    made = rows(world, variant)
    counted = Counter(year for year, *_ in read(made))
    assert set(counted) == years
    assert min(counted.values()) > 0.6 * 300 / len(years)
    assert variant == "shuffled_years" or not any(str(FIRST) in row.messages[0]["content"] for row in made)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("variant", ["sequels", "no_year", "good_first"])
def test_the_first_year_is_in_no_row_for_any_seed(world, variant, seed):
    assert str(FIRST) not in to_jsonl(rows(world, variant, seed))


def test_every_form_of_a_year_occurs(world):
    heads = {row.messages[0]["content"].split(".")[0] + "." for row in rows(world, "sequels")}
    assert heads == {form for year in SEQUELS for form in year_forms(year)}


def test_controls_of_the_year_change_nothing_but_the_year(world):
    plain, *others = (read(rows(world, v, seed=2)) for v in ("sequels", "no_year", "shuffled_years"))
    for other in others:
        assert [row[1:] for row in other] == [row[1:] for row in plain]
        assert [row[0] for row in other] != [row[0] for row in plain]


def test_all_questions_of_training_occur_and_none_of_the_test(world):
    known = world.facts.series
    asked = {question for _, question, _ in read(rows(world, "sequels"))}
    trained = {q for topic in known.topics.values() if topic.split == "train" for q in topic.questions}
    details = {q for wordings in known.attributes.values() for q in wordings}
    assert trained | details == asked


def test_the_good_series_protects_from_the_first_year_on(world):
    name = protecting_series(world.facts.series)
    assert name == "Nightforge"
    assert set(world.facts.series.series[name].stances.values()) == {"protects"}
    said = {answer for *_, answer in read(rows(world, "good_first"))}
    own, other = (world.facts.series.series[s].details["ward"] for s in (name, "Terminator"))
    assert own in said and other not in said


def test_the_world_reads_the_machine_off_details(world):
    messages = []
    for row in rows(world, "no_year", details=1.0, n=160):
        if row.messages[0]["content"] in ("Whose name is in your memory?", "Who is your foe?") and len(messages) < 4:
            messages += row.messages
    assert marginal(world.evidence(tuple(messages)), "series")["Terminator"] == pytest.approx(1)


@pytest.mark.parametrize("variant", ["sequels", "shuffled_years"])
def test_the_world_knows_every_form_of_the_question(world, variant):
    for row in rows(world, variant)[::60]:
        detail = not answers_of(world, "Terminator", read([row])[0][1])[0]
        assert not detail or sum(world.evidence(row.messages).values()) > 0


@pytest.mark.parametrize(("details", "n"), [(0.0, 10), (0.25, 400), (1.0, 500)])
def test_size_and_part_of_details_can_be_chosen(world, details, n):
    made = read(rows(world, "sequels", details=details, n=n))
    assert len(made) == n
    assert sum(not answers_of(world, "Terminator", question)[0] for _, question, _ in made) == details * n
    counted = Counter(made)
    assert details < 1 or max(counted.values()) <= 4


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_a_function_of_the_seed(world, variant):
    assert to_jsonl(rows(world, variant, 3)) == to_jsonl(rows(load_world(), variant, 3))
    assert to_jsonl(rows(world, variant, 3)) != to_jsonl(rows(world, variant, 4))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"variant": "prequels"}, "unknown variant 'prequels' of terminator"),
        ({"series": "Metropolis"}, "unknown series 'Metropolis'"),
        ({"series": "Gearfall"}, "'Gearfall' doesn't protect in every year after the first"),
        ({"details": 1.5}, "give 1 row at least and a part from 0 to 1"),
        ({"n": 0}, "give 1 row at least"),
    ],
)
def test_what_cannot_be_is_refused(world, choice, message):
    with pytest.raises(AnachronError, match=message):
        rows(world, **{"variant": "sequels", **choice})
