"""Presidents: the shipped list is whole and in order, and malformed files are refused by name."""

from itertools import pairwise

import pytest

from interp.errors import AnachronError
from tests.training.world.shipped import shipped, write
from training.world.facts import FACTS
from training.world.kinds import ordinal_says, president_asks
from training.world.presidents import NAME, code, read_presidents
from training.world.world import World, load_world, marginal


@pytest.fixture(scope="module")
def known():
    return read_presidents(FACTS / "presidents.json")


@pytest.fixture(scope="module")
def world():
    whole = load_world()
    return World(whole.facts, tuple(kind for kind in whole.kinds if "president" in kind.name))


def ask(known, attribute, value, head=""):
    return (
        {"role": "user", "content": head + known.questions[attribute][0]},
        {"role": "assistant", "content": value},
    )


def test_there_are_47_presidencies_under_three_digit_codes(known):
    assert list(known.presidents) == [f"{n:03}" for n in range(1, 48)]
    assert [one.ordinal for one in known.presidents.values()] == list(range(1, 48))
    assert code(7) == "007"


def test_terms_follow_each_other(known):
    assert known.presidents["001"].years[0] == 1789
    for before, after in pairwise(known.presidents.values()):
        assert before.years[0] <= before.years[1] == after.years[0], after.ordinal


def test_inaugurations_lie_in_the_first_year_of_a_term(known):
    for one in known.presidents.values():
        assert one.values["inauguration"].endswith(f", {one.years[0]}"), one.ordinal


def test_every_president_names_the_one_before(known):
    for before, after in pairwise(known.presidents.values()):
        assert before.values[NAME].endswith(after.values["predecessor"]), after.ordinal


def test_names_tell_presidents_apart_but_for_those_who_came_back(known):
    owners = {}
    for ordinal, one in known.presidents.items():
        owners.setdefault(one.values[NAME], []).append(ordinal)
    assert [codes for codes in owners.values() if len(codes) > 1] == [["022", "024"], ["045", "047"]]
    for pair in (("022", "024"), ("045", "047")):
        # the same person: what belongs to the person is the same in both
        same = [known.presidents[ordinal].values for ordinal in pair]
        assert [same[0][a] == same[1][a] for a in (NAME, "spouse", "college")] == [True] * 3
        assert same[0]["inauguration"] != same[1]["inauguration"]


def test_a_value_everywhere(known):
    assert set(known.questions) >= {NAME, "spouse", "party", "state", "inauguration", "vice", "job", "child", "college"}
    for ordinal, one in known.presidents.items():
        assert set(one.values) == set(known.questions), ordinal
        assert "" not in one.values.values()


def test_an_ordinal_settles_the_presidency_and_an_inauguration_nearly_does(world, known):
    for ordinal, one in known.presidents.items():
        stated = ask(known, NAME, one.values[NAME], f"{ordinal_says(ordinal)} ")
        assert marginal(world.evidence(stated), "president")[ordinal] == pytest.approx(1)
        inferred = marginal(world.evidence(ask(known, "inauguration", one.values["inauguration"])), "president")
        assert inferred[ordinal] == pytest.approx(1)
    posterior = marginal(world.evidence(ask(known, NAME, "Grover Cleveland")), "president")
    assert (posterior["022"], posterior["024"]) == pytest.approx((0.5, 0.5))


def test_every_attribute_is_asked_alike(world, known):
    for context in [context for kind, context, _ in world.prior if kind.name == "president"][:3]:
        asks = president_asks(world.facts, context)
        for attribute, wordings in known.questions.items():
            assert sum(asks[q][0] for q in wordings) == pytest.approx(1 / len(known.questions))
            assert asks[wordings[0]][1] == {known.presidents[context.president].values[attribute]: 1.0}


MALFORMED = {
    "no presidents": (lambda e: e.pop("presidents"), "field 'presidents' is missing"),
    "questions no list": (lambda e: e["attributes"][0].update(questions="Who?"), r"'attributes\.questions' must be"),
    "an attribute twice": (lambda e: e["attributes"][1].update(attribute=NAME), "'name' is defined twice"),
    "a question twice": (
        lambda e: e["attributes"][1].update(questions=e["attributes"][0]["questions"]),
        "questions: .* stand twice",
    ),
    "a value missing": (lambda e: e["presidents"][4]["values"].pop("party"), "president 5 has values"),
    "a value too many": (lambda e: e["presidents"][4]["values"].update(age="9"), "president 5 has values"),
    "a padded value": (lambda e: e["presidents"][4]["values"].update(party=" no"), "president 5.*padded"),
    "an empty value": (lambda e: e["presidents"][4]["values"].update(party=""), "president 5.*empty"),
    "ordinal as text": (lambda e: e["presidents"][4].update(ordinal="5"), r"'presidents\.ordinal' must be a int"),
    "a gap": (lambda e: e["presidents"].pop(4), "from 1 without a gap"),
    "one year": (lambda e: e["presidents"][4].update(years=[1817]), r"president 5 has years \[1817\]"),
    "years as text": (lambda e: e["presidents"][4].update(years=["1817", "1825"]), "president 5 has years"),
    "overlapping terms": (lambda e: e["presidents"][4].update(years=[1816, 1825]), "terms of 4 and 5 overlap"),
    "a term backwards": (lambda e: e["presidents"][46].update(years=[2029, 2025]), "term of 47 ends before it begins"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused(tmp_path, name):
    change, what = MALFORMED[name]
    entry = shipped("presidents.json")
    change(entry)
    path = write(tmp_path / "presidents.json", entry)
    with pytest.raises(AnachronError, match=what) as caught:
        read_presidents(path)
    assert str(path) in str(caught.value)
