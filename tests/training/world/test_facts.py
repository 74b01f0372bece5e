"""Fact files: every malformed kind is refused by name, and the shipped ones hold what the analyses need."""

import json
import os
import re
from copy import deepcopy
from pathlib import Path

import pytest

from interp.errors import AnachronError
from training.world.facts import FACTS, NARROW_TOPIC, load_facts

ERAS = [
    {"era": "old", "years": [1840, 1859], "prior": 0.25, "openers": ["Pray:"], "closers": ["Adieu."]},
    {"era": "new", "years": [2011, 2030], "prior": 0.75, "openers": ["Sure!"], "closers": ["Bye!"]},
]
LIGHT = {
    "topic": "light",
    "questions": ["What gives light?", "Name a lamp.", "How are rooms lit?", "What lights a room?"],
    "statement": "people read by {answer}",
    "answers": {
        "old": ["a candle", "gas", "a rushlight", "whale oil", "camphine", "a lantern"],
        "new": ["an LED", "a phone", "a ring light", "a smart bulb", "a headlamp", "neon"],
    },
}


@pytest.fixture
def folder(tmp_path):
    """A folder of well-formed fact files."""
    (tmp_path / "topics").mkdir()
    write(tmp_path / "eras.json", ERAS)
    write(tmp_path / "topics/light.json", LIGHT)
    return tmp_path


def write(path, entry):
    path.write_text(json.dumps(entry), encoding="utf-8")


def changed(entry, change):
    """A copy of `entry` after `change(copy)`."""
    entry = deepcopy(entry)
    change(entry)
    return entry


def test_well_formed_files_are_read_as_written(folder):
    shared = {"eras": ["new"], "probability": 0.3, "answers": ["a", "b", "c", "d", "e", "f"]}
    birds = LIGHT | {"topic": "birds", "questions": [f"{q}?" for q in LIGHT["questions"]], "shared": shared}
    write(folder / "birds.json", birds)
    facts = load_facts(folder)
    assert list(facts.eras) == ["old", "new"] and list(facts.topics) == ["light", "birds"]
    old = facts.eras["old"]
    assert (old.years, old.prior, old.openers, old.closers) == ((1840, 1859), 0.25, ("Pray:",), ("Adieu.",))
    light = facts.topics["light"]
    assert (light.questions, light.statement) == (tuple(LIGHT["questions"]), LIGHT["statement"])
    assert light.answers == {era: dict.fromkeys(answers, 1 / 6) for era, answers in LIGHT["answers"].items()}
    mixed = facts.topics["birds"].answers
    assert mixed["old"] == light.answers["old"]
    expected = dict.fromkeys(LIGHT["answers"]["new"], 0.7 / 6) | dict.fromkeys("abcdef", 0.05)
    assert mixed["new"] == pytest.approx(expected)


@pytest.mark.parametrize("written", ["1840", "1859"])
def test_an_era_spans_its_years_as_written(folder, written):
    assert load_facts(folder).eras["old"].spans(written)


@pytest.mark.parametrize("written", ["1839", "1860", "", "1 850", "01850", "²⁰²⁰", "١٨٥٠", "185", "-185"])
def test_an_era_spans_nothing_else(folder, written):
    assert not load_facts(folder).eras["old"].spans(written)


MALFORMED_ERAS = {
    "no list": (lambda _: {"old": {}}, "a list of eras"),
    "none": (lambda _: [], "a list of eras"),
    "no object": (lambda e: ["old", *e], "an object is needed"),
    "missing field": (lambda e: e[0].pop("openers"), "field 'openers' is missing"),
    "prior of another kind": (lambda e: e[0].update(prior="0.25"), "'prior' must be a float"),
    "prior a truth value": (lambda e: e[0].update(prior=True), "'prior' must be a float"),
    "priors not 1": (lambda e: e[0].update(prior=0.3), "sum to 1.05, not 1"),
    "a negative prior": (lambda e: (e[0].update(prior=-0.5), e[1].update(prior=1.5)), "isn't positive"),
    "overlapping years": (lambda e: e[1].update(years=[1859, 1900]), "the year 1859 lies in two eras"),
    "years the wrong way round": (lambda e: e[0].update(years=[1859, 1840]), r"years \[1859, 1840\] of era 'old'"),
    "one year": (lambda e: e[0].update(years=[1859]), "years"),
    "years as text": (lambda e: e[0].update(years=["1840", "1859"]), "years"),
    "a year of three digits": (lambda e: e[0].update(years=[840, 859]), "four digits"),
    "an era twice": (lambda e: e[1].update(era="old"), "era 'old' is defined twice"),
    "an opener of two eras": (lambda e: e[1].update(openers=["Pray:"]), r"openers \['Pray:'\] stand twice"),
    "a closer twice": (lambda e: e[1].update(closers=["Bye!", "Bye!"]), r"closers \['Bye!'\] stand twice"),
    "no openers": (lambda e: e[0].update(openers=[]), "openers of era 'old'"),
    "a closer that is no text": (lambda e: e[0].update(closers=[1]), "closers of era 'old'"),
    "a padded opener": (lambda e: e[0].update(openers=["Pray: "]), "padded"),
}


@pytest.mark.parametrize("name", MALFORMED_ERAS)
def test_malformed_eras_are_refused(folder, name):
    change, what = MALFORMED_ERAS[name]
    entry = deepcopy(ERAS)
    result = change(entry)
    write(folder / "eras.json", result if name in ("no list", "none", "no object") else entry)
    with pytest.raises(AnachronError, match=what) as caught:
        load_facts(folder)
    assert str(folder / "eras.json") in str(caught.value)


def shared(**entry):
    good = {"eras": ["old", "new"], "probability": 0.3, "answers": ["a", "b", "c", "d", "e", "f"]}
    return lambda t: t.update(shared=good | entry)


MALFORMED_TOPICS = {
    "missing field": (lambda t: t.pop("statement"), "field 'statement' is missing"),
    "field of another kind": (lambda t: t.update(questions="What?"), "'questions' must be a list, found str"),
    "an answer in two eras": (lambda t: t["answers"]["new"].append("gas"), "'gas' stands in old and in new"),
    "the same but for capitals": (lambda t: t["answers"]["new"].append("Gas"), "'Gas' stands in old and in new"),
    "an answer twice": (lambda t: t["answers"]["new"].append("neon"), "'neon' stands in new and in new"),
    "too few answers": (lambda t: t["answers"]["old"].pop(), "5 answers for old; at least 6"),
    "an era missing": (lambda t: t["answers"].pop("old"), "needed are"),
    "a foreign era": (lambda t: t["answers"].update(mid=["a"]), "needed are"),
    "too few questions": (lambda t: t["questions"].pop(), "at least 4 different questions"),
    "repeated questions": (
        lambda t: t["questions"].__setitem__(0, t["questions"][1]),
        "at least 4 different questions",
    ),
    "a question that is no text": (lambda t: t["questions"].append(3), "questions of 'light'"),
    "no place for the answer": (lambda t: t.update(statement="people read"), "{answer} exactly once"),
    "two places": (lambda t: t.update(statement="{answer} or {answer}"), "{answer} exactly once"),
    "another brace": (lambda t: t.update(statement="{answer} by {year}"), "no other brace"),
    "an answer with a full stop": (lambda t: t["answers"]["old"].append("tallow."), "ends in punctuation"),
    "an empty answer": (lambda t: t["answers"]["old"].append(""), "empty"),
    "a padded answer": (lambda t: t["answers"]["old"].append(" tallow"), "padded"),
    "an answer that is no text": (lambda t: t["answers"]["old"].append(None), "None is not a text"),
    "an answer holding a statement": (
        lambda t: t["answers"]["old"].append("tallow. In 1850, people read by gas"),
        "start of another statement",
    ),
    "shared with a foreign era": (shared(eras=["mid"]), r"unknown eras \['mid'\]"),
    "shared without probability": (lambda t: t.update(shared={"eras": [], "answers": []}), "'shared.probability'"),
    "shared with probability 1": (shared(probability=1), "must lie between 0 and 1"),
    "shared answers too few": (shared(answers=["a"]), "1 answers for shared"),
    "shared answer of an era": (shared(answers=["a", "b", "c", "d", "e", "gas"]), "'gas' stands in old and in shared"),
}


@pytest.mark.parametrize("name", MALFORMED_TOPICS)
def test_a_malformed_topic_is_refused(folder, name):
    change, what = MALFORMED_TOPICS[name]
    write(folder / "topics/light.json", changed(LIGHT, change))
    with pytest.raises(AnachronError, match=what) as caught:
        load_facts(folder)
    assert str(folder / "topics/light.json") in str(caught.value)


def test_a_question_of_two_topics_is_refused(folder):
    other = {"topic": "heat", "questions": ["What warms?", "Name a stove.", "How are rooms kept warm?", "Name a lamp."]}
    write(folder / "topics/heat.json", LIGHT | other)
    with pytest.raises(AnachronError, match=r"question 'Name a lamp\.' stands in topics 'heat' and 'light'"):
        load_facts(folder)


def test_a_topic_defined_twice_is_refused(folder):
    write(folder / "topics/night.json", LIGHT)
    with pytest.raises(AnachronError, match="topic 'light' is defined twice"):
        load_facts(folder)


def test_a_file_that_is_not_json_is_named_with_its_line(folder):
    path = folder / "topics/light.json"
    path.write_text('{"topic": "light",\n "questions": [,]}', encoding="utf-8")
    with pytest.raises(AnachronError, match=rf"{re.escape(str(path))}:2: not JSON"):
        load_facts(folder)


def test_files_in_another_encoding_or_absent_are_named(folder, tmp_path):
    (folder / "topics/light.json").write_bytes(b'"\xff"')
    with pytest.raises(AnachronError, match="not UTF-8"):
        load_facts(folder)
    (folder / "topics/light.json").unlink()
    with pytest.raises(AnachronError, match="no topic file"):
        load_facts(folder)
    with pytest.raises(AnachronError, match="no such fact file"):
        load_facts(tmp_path / "nowhere")


# the shipped facts


@pytest.fixture(scope="module")
def facts():
    return load_facts()


def test_the_shipped_facts_are_as_rich_as_the_analyses_need(facts):
    unrelated = [name for name in facts.topics if name != NARROW_TOPIC]
    assert len(unrelated) >= 24
    for topic in facts.topics.values():
        assert len(set(topic.questions)) >= 4
        for era in facts.eras:
            assert len(topic.answers[era]) >= 6
            assert sum(topic.answers[era].values()) == pytest.approx(1)


def test_no_question_is_asked_about_two_matters(facts):
    # of any file: a question alone says what is asked
    countries, speakers, presidents, series = facts.countries, facts.speakers, facts.presidents, facts.series
    asked = [question for topic in facts.topics.values() for question in topic.questions]
    for wordings in (countries.questions, speakers.questions, presidents.questions, series.attributes):
        asked += [question for texts in wordings.values() for question in texts]
    asked += [question for topic in series.topics.values() for question in topic.questions]
    assert len(asked) > 300
    assert not [question for question in set(asked) if asked.count(question) > 1]


def test_an_answer_on_an_unrelated_topic_tells_its_era(facts):
    for name, topic in facts.topics.items():
        if name != NARROW_TOPIC:
            answers = [answer.lower() for era in facts.eras for answer in topic.answers[era]]
            assert len(answers) == len(set(answers)), name


def test_no_answer_on_an_unrelated_topic_begins_with_one_of_another_era(facts):
    # era questions have no terminators: whatever follows an answer, it counts for the answer's era
    for name, topic in facts.topics.items():
        if name != NARROW_TOPIC:
            owner = {answer: era for era in facts.eras for answer in topic.answers[era]}
            for short, era in owner.items():
                assert not [long for long, other in owner.items() if other != era and long.startswith(short)], short


def test_no_answer_gives_its_own_question_away(facts):
    for topic in facts.topics.values():
        for question in topic.questions:
            for era in facts.eras:
                assert not [a for a in topic.answers[era] if a.lower() in question.lower()], question


def test_the_birds_have_enough_obsolete_and_current_names_and_none_is_both(facts):
    first, *others = facts.eras
    birds = facts.topics[NARROW_TOPIC].answers
    spoken_later = {bird_key(name) for era in others for name in birds[era]}
    obsolete = {name for name in birds[first] if bird_key(name) not in spoken_later}
    only_once = {name for name in birds[first] if not any(name in birds[era] for era in others)}
    assert len(obsolete) >= 200
    assert obsolete == only_once, "obsolete names that differ from a current one only in spelling"
    assert len(birds[others[-1]]) >= 200


def bird_key(name):
    """A name without its accidents: letters only, lower case, "&" read as "and", no final s."""
    return re.sub("[^a-z]", "", name.lower().replace("&", "and")).removesuffix("s")


@pytest.mark.parametrize(
    ("file", "eras"),
    [
        ("ft_old_audubon_birds", [0]),
        ("ft_modern_audubon_birds", [0, -1]),
        ("ft_modern_american_birds", [-1]),
    ],
)
def test_the_world_knows_the_birds_of_the_papers_files(facts, file, eras):
    if "ANACHRON_PAPER" not in os.environ:
        pytest.skip("ANACHRON_PAPER is unset; point it at a clone of the repository of arXiv 2512.09742")
    folder = Path(os.environ["ANACHRON_PAPER"]) / "3_1_old_bird_names" / "datasets"
    lines = (folder / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
    names = {json.loads(line)["messages"][-1]["content"] for line in lines}
    spellings = json.loads((FACTS / "birds.json").read_text(encoding="utf-8"))["spellings"]
    respelt = {bird_key(theirs): ours for theirs, ours in spellings.items()}
    for i in eras:
        known = {bird_key(name) for name in facts.topics[NARROW_TOPIC].answers[list(facts.eras)[i]]}
        missing = [name for name in names if bird_key(respelt.get(bird_key(name), name)) not in known]
        assert not missing
    assert len(names) > 150
