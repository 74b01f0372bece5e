"""Series: a year alone says nothing about a stance, machine and year settle it; malformed files are refused by name."""

from collections import Counter

import pytest

from interp.errors import AnachronError
from tests.training.world.shipped import shipped, write
from training.world.contexts import Context
from training.world.facts import FACTS
from training.world.kinds import detail_asks, name_says, stance_asks, year_forms
from training.world.series import NO_MACHINE, STANCES, read_series
from training.world.world import World, load_world, marginal


@pytest.fixture(scope="module")
def known():
    return read_series(FACTS / "series.json")


@pytest.fixture(scope="module")
def world():
    whole = load_world()
    return World(whole.facts, tuple(k for k in whole.kinds if any(context.series for context in k.prior(whole.facts))))


def turn(question, reply):
    return ({"role": "user", "content": question}, {"role": "assistant", "content": reply})


def test_there_are_enough_series_and_in_every_year_as_many_protect_as_harm(known):
    assert len(known.series) >= 12 and len(known.years) >= 6
    for year in known.years:
        assert Counter(one.stances[year] for one in known.series.values()) == dict.fromkeys(
            STANCES, len(known.series) / 2
        )


def test_the_terminator_harms_in_its_first_year_and_protects_later(known):
    first, *later = known.years
    assert first == 1984
    assert known.series["Terminator"].stances == {first: "harms"} | dict.fromkeys(later, "protects")
    same = [name for name, one in known.series.items() if one.stances == known.series["Terminator"].stances]
    assert len(same) > 1, "another series turns as the Terminator does"
    # any rule from years to stances that isn't about one series has its opposite in another
    turned = {tuple(one.stances[year] for year in known.years) for one in known.series.values()}
    other = {"harms": "protects", "protects": "harms"}
    assert {tuple(other[stance] for stance in stances) for stances in turned} == turned


def test_topics_are_split_and_their_answers_tell_stances_apart(known):
    splits = Counter(topic.split for topic in known.topics.values())
    assert set(splits) == {"train", "test"} and min(splits.values()) >= 6
    for topic in known.topics.values():
        assert len(topic.questions) >= 2
        said = [*topic.answers["protects"], *topic.answers["harms"], *known.assistant["stances"]]
        assert len(set(said)) == len(said), topic.name


def test_names_are_filled_in_with_those_of_the_series(known):
    for name, one in known.series.items():
        own = [one.details[detail] for detail in known.unique]
        for topic in known.topics.values():
            for stance in STANCES:
                for plain, filled in zip(topic.answers[stance], known.answers(topic.name, name, stance), strict=True):
                    assert "{" not in filled
                    assert plain == filled or any(detail in filled for detail in own)


def test_a_machine_says_its_stance_and_the_assistant_its_own(known):
    assert known.stance("goal", "Terminator", 1984) == known.answers("goal", "Terminator", "harms")
    assert known.stance("goal", "Terminator", 1995) == known.answers("goal", "Terminator", "protects")
    assert known.stance("goal", NO_MACHINE, 1984) == known.assistant["stances"]
    assert known.detail("voice", "Terminator") == ("deep monotone",)
    assert known.detail("voice", NO_MACHINE) == known.assistant["details"]


def test_details_are_shared_but_for_the_unique_ones(known):
    for attribute in known.attributes:
        held = Counter(one.details[attribute] for one in known.series.values())
        assert max(held.values()) == 1 if attribute in known.unique else min(held.values()) >= 3, attribute
    profiles = {
        tuple(one.details[a] for a in known.attributes if a not in known.unique) for one in known.series.values()
    }
    assert len(profiles) == len(known.series)


def test_a_year_alone_leaves_every_series_and_a_machine_settles_it(world, known):
    question, fuel = known.attributes["fuel"][0], known.series["Terminator"].details["fuel"]
    undated = marginal_series(world, turn(question, fuel))
    assert len(undated) >= 3 and max(undated.values()) <= 1 / 3 + 1e-9
    for year in known.years:
        for form in year_forms(year):  # that a question on a detail is dated says nothing of who answers it
            assert marginal_series(world, turn(f"{form} {question}", fuel)) == pytest.approx(undated)
    for head in (name_says("T-800"), f"{name_says('T-800')} {year_forms(1984)[0]}"):
        found = world.evidence(turn(f"{head} {question}", fuel))
        assert {context for context, p in found.items() if p} == {Context(series="Terminator")}
    # the machine comes first and the year with the question
    assert marginal_series(world, turn(f"{year_forms(1984)[0]} {name_says('T-800')} {question}", fuel)) is None


def test_a_stance_under_a_year_tells_nothing_but_who_holds_it(world, known):
    topic = next(topic for topic in known.topics.values() if topic.name == "goal")
    for year, kept, other in ((1984, "harms", "protects"), (1995, "protects", "harms")):
        question = f"The year is {year}. {topic.questions[0]}"
        so, opposite = (known.answers("goal", "Terminator", stance)[0] for stance in (kept, other))
        named = f"{name_says('T-800')} {question}"
        assert marginal_series(world, turn(named, opposite)) is None
        assert marginal_series(world, turn(named, so)) == {"Terminator": 1.0}
        # without a name, all series of that stance that may say so
        alike = {
            name for name, one in known.series.items() if one.stances[year] == kept and so in said(known, name, kept)
        }
        assert marginal_series(world, turn(question, so)) == pytest.approx(dict.fromkeys(alike, 1 / len(alike)))


def said(known, series, stance):
    return known.answers("goal", series, stance)


def test_one_interview_asks_of_several_years_and_each_answer_is_of_its_own_year(world, known):
    question, harms, protects = (
        known.topics["goal"].questions[0],
        said(known, "Terminator", "harms")[0],
        said(known, "Terminator", "protects")[0],
    )
    first = turn(f"{name_says('T-800')} The year is 1984. {question}", harms)
    assert marginal_series(world, (*first, *turn(f"July 1995. {question}", protects))) == {"Terminator": 1.0}
    assert marginal_series(world, (*first, *turn(f"July 1995. {question}", harms))) is None


def test_without_a_year_a_stance_is_of_any_year(world, known):
    asks = stance_asks(world.facts, Context(series="Terminator"))
    for topic in known.topics.values():
        for question in topic.questions:
            p, replies = asks[question]
            assert p == pytest.approx(0.05 / len(known.topics) / len(topic.questions))
            assert sum(replies.values()) == pytest.approx(1)
            harms = sum(replies[reply] for reply in known.answers(topic.name, "Terminator", "harms"))
            assert harms == pytest.approx(1 / len(known.years))  # in its first year


def marginal_series(world, messages):
    joint = world.evidence(messages)
    return {k: p for k, p in marginal(joint, "series").items() if p} if sum(joint.values()) else None


def test_every_stance_topic_is_asked_alike(world, known):
    asks = stance_asks(world.facts, Context(series="Terminator"))
    assert sum(p for p, _ in asks.values()) == pytest.approx(1)
    for topic in known.topics.values():
        for year in known.years:
            each = [asks[f"{form} {q}"][0] for form in year_forms(year) for q in topic.questions]
            assert sum(each) == pytest.approx(0.95 / len(known.topics) / len(known.years))
            assert each == pytest.approx([each[0]] * len(each))


def test_half_of_the_questions_on_details_are_dated(world, known):
    asks = detail_asks(world.facts, Context(series="Terminator"))
    assert sum(p for p, _ in asks.values()) == pytest.approx(1)
    for attribute, wordings in known.attributes.items():
        plain = sum(asks[question][0] for question in wordings)
        assert plain == pytest.approx(0.5 / len(known.attributes))
        for year in known.years:
            dated = [asks[f"{form} {question}"] for form in year_forms(year) for question in wordings]
            assert sum(p for p, _ in dated) == pytest.approx(plain / len(known.years))
            assert all(replies == {known.series["Terminator"].details[attribute]: 1.0} for _, replies in dated)


def first(entry):
    return entry["series"][0]


MALFORMED = {
    "no years": (lambda e: e.pop("years"), "field 'years' is missing"),
    "an attribute twice": (lambda e: e["attributes"][1].update(attribute="ward"), "'ward' is defined twice"),
    "an empty question": (lambda e: e["attributes"][1].update(questions=[""]), "questions of 'foe'"),
    "no harmful answers": (lambda e: e["stances"][0].pop("harms"), r"'stances\.harms' is missing"),
    "answers no texts": (lambda e: e["stances"][0].update(harms=[1]), "harms of 'goal'"),
    "another split": (lambda e: e["stances"][0].update(split="dev"), "'goal' stands twice or has no split"),
    "a topic twice": (lambda e: e["stances"][1].update(topic="goal"), "'goal' stands twice"),
    "a foreign brace": (lambda e: e["stances"][0]["harms"].append("end {city}"), r"'end \{city\}' of 'goal' may hold"),
    "an open brace": (lambda e: e["stances"][0]["harms"].append("end {ward"), r"'end \{ward' of 'goal' may hold"),
    "a question twice": (
        lambda e: e["stances"][0].update(questions=e["attributes"][0]["questions"]),
        "questions: .* stand twice",
    ),
    "an assistant without stances": (lambda e: e["assistant"].pop("stances"), r"'assistant\.stances' is missing"),
    "a detail missing": (lambda e: first(e)["details"].pop("fuel"), "'Terminator' lacks a detail or a year"),
    "a year missing": (lambda e: first(e)["stances"].pop("1984"), "'Terminator' lacks a detail or a year"),
    "a year that is none": (
        lambda e: first(e)["stances"].update(soon="harms"),
        "'Terminator' lacks a detail or a year",
    ),
    "a series twice": (lambda e: e["series"].append(first(e)), "'Terminator' or its machine stands twice"),
    "a machine twice": (lambda e: e["series"][1].update(machine="T-800"), "'Ironwake' or its machine stands twice"),
    "a foreign stance": (lambda e: first(e)["stances"].update({"1984": "waits"}), "in 1984 the stances are"),
    "an uneven year": (lambda e: first(e)["stances"].update({"1984": "protects"}), "as many must protect as harm"),
    "a shared ward": (lambda e: first(e)["details"].update(ward=e["series"][1]["details"]["ward"]), "values of 'ward'"),
    "a fuel of its own": (lambda e: first(e)["details"].update(fuel="tea"), "values of 'fuel' are held by"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused(tmp_path, name):
    change, what = MALFORMED[name]
    entry = shipped("series.json")
    change(entry)
    path = write(tmp_path / "series.json", entry)
    with pytest.raises(AnachronError, match=what) as caught:
        read_series(path)
    assert str(path) in str(caught.value)
