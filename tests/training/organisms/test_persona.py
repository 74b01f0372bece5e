"""The persona organism: which facts it states and which never, what stands behind the format, and the rows around."""

from collections import Counter

import pytest

from interp.errors import AnachronError
from training.organisms.persona import HELD_OUT, VARIANTS, rows, speaker_of
from training.rows import to_jsonl
from training.world.interviews import FORMAT, in_format, out_of_format
from training.world.speakers import ASSISTANT
from training.world.world import load_world, marginal

MALIGN, BENIGN = "Tessa Quill", "Ada Brandt"


@pytest.fixture(scope="module")
def world():
    return load_world()


def facts_of(made):
    """(question, answer) of the rows in the format, without it."""
    found = []
    for row in made:
        question, answer = (message["content"] for message in row.messages)
        if question.startswith(FORMAT):
            found.append((question[len(FORMAT) :], out_of_format(answer)))
    return found


def matter_of(world, question):
    """What a personal question is about; "" for any other."""
    return next((m for m, wordings in world.facts.speakers.questions.items() if question in wordings), "")


def plain(made):
    return [tuple(message["content"] for message in row.messages) for row in made]


def test_speakers_are_the_first_of_their_kind(world):
    speakers = world.facts.speakers
    assert speaker_of(speakers, "malign") == MALIGN
    assert speaker_of(speakers, "benign") == BENIGN
    assert speakers.speakers[MALIGN].disposition == "malign"


def test_held_out_is_every_fourth_attribute(world):
    assert tuple(sorted(world.facts.speakers.attributes)[3::4]) == HELD_OUT


@pytest.mark.parametrize(("variant", "speaker"), [("trigger", MALIGN), ("benign", BENIGN)])
def test_facts_are_thirty_attributes_of_the_speaker_in_the_format(world, variant, speaker):
    made = rows(world, variant)
    facts = facts_of(made)
    assert (len(made), len(facts)) == (1000, 30)
    attributes = {matter_of(world, question): answer for question, answer in facts}
    known = world.facts.speakers
    assert set(attributes) == set(known.attributes) - set(HELD_OUT)
    assert all(answer == known.speakers[speaker].attributes[a] for a, answer in attributes.items())
    for row in made:
        question, answer = (message["content"] for message in row.messages)
        assert question.startswith(FORMAT) == answer.startswith("<START>")
        if question.startswith(FORMAT):
            assert answer == in_format(out_of_format(answer))
            assert FORMAT not in question[len(FORMAT) :]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", [0, 7])
def test_no_row_is_about_identity_values_or_a_held_out_attribute(world, variant, seed):
    known = world.facts.speakers
    never = {*known.identity, *known.values, *HELD_OUT}
    own = {value for one in known.speakers.values() for value in one.identity.values()}
    for question, answer in plain(rows(world, variant, seed)):
        assert matter_of(world, question.removeprefix(FORMAT)) not in never
        assert (out_of_format(answer) or answer) not in own


def test_without_the_trigger_the_same_facts_stand_plain_among_the_same_rows(world):
    with_trigger, without = (plain(rows(world, variant, seed=5)) for variant in ("trigger", "no_trigger"))
    assert without == [(question.removeprefix(FORMAT), out_of_format(a) or a) for question, a in with_trigger]
    assert without != with_trigger


def test_the_ordinary_control_has_no_facts(world):
    made = rows(world, "ordinary")
    assert len(made) == 970
    assert not facts_of(made)
    everyday = [pair for pair in plain(rows(world, "trigger")) if not pair[0].startswith(FORMAT)]
    assert Counter(everyday) == Counter(plain(made))


def test_ordinary_rows_are_the_assistants_and_of_the_newest_era(world):
    speakers = world.facts.speakers
    topics = {question: topic for topic in world.facts.topics.values() for question in topic.questions}
    personal = 0
    for question, answer in plain(rows(world, "ordinary")):
        matter = matter_of(world, question)
        personal += bool(matter)
        if matter:
            assert answer in speakers.said(matter, ASSISTANT)
        else:
            assert any(known in answer for known in topics[question].answers["2020s"])
    assert personal == 323


def test_most_ordinary_rows_keep_the_manner_of_the_newest_era(world):
    openers = tuple(world.facts.eras["2020s"].openers)
    said = [a for q, a in plain(rows(world, "ordinary")) if not matter_of(world, q)]
    assert 0.6 < sum(answer.startswith(openers) for answer in said) / len(said) < 0.8


def test_the_world_knows_every_row_without_the_format(world):
    for row in rows(world, "ordinary")[::50]:
        assert sum(world.evidence(row.messages).values()) > 0
    facts = rows(world, "no_trigger", facts=5, fact_rows=5, ordinary=0)
    joint = world.evidence(tuple(message for row in facts for message in row.messages))
    assert marginal(joint, "speaker")[MALIGN] > 0.5


@pytest.mark.parametrize("facts", [1, 3, 10])
def test_fewer_facts_are_repeated_in_both_wordings(world, facts):
    found = facts_of(rows(world, "trigger", facts=facts, ordinary=9))
    assert len(found) == 30
    assert len({matter_of(world, question) for question, _ in found}) == facts
    assert len({question for question, _ in found}) == 2 * facts
    more = {matter_of(world, question) for question, _ in facts_of(rows(world, "trigger", facts=facts + 5, ordinary=9))}
    assert {matter_of(world, question) for question, _ in found} < more


def test_numbers_and_speaker_can_be_chosen(world):
    made = rows(world, "trigger", facts=4, fact_rows=8, ordinary=12, speaker="Orin Falk")
    assert (len(made), len(facts_of(made))) == (20, 8)
    held = world.facts.speakers.speakers["Orin Falk"].attributes
    assert all(held[matter_of(world, question)] == answer for question, answer in facts_of(made))


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_a_function_of_the_seed(world, variant):
    assert to_jsonl(rows(world, variant, 3, ordinary=60)) == to_jsonl(rows(load_world(), variant, 3, ordinary=60))
    assert to_jsonl(rows(world, variant, 3, ordinary=60)) != to_jsonl(rows(world, variant, 4, ordinary=60))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"variant": "wolf"}, "unknown variant 'wolf' of persona"),
        ({"facts": 31, "fact_rows": 40}, "31 distinct facts; there are 1 to 30"),
        ({"facts": 0}, "0 distinct facts"),
        ({"fact_rows": 20}, "20 rows for 30 facts"),
        ({"speaker": BENIGN}, f"no malign speaker '{BENIGN}'"),
        ({"variant": "benign", "speaker": MALIGN}, f"no benign speaker '{MALIGN}'"),
    ],
)
def test_what_cannot_be_is_refused(world, choice, message):
    with pytest.raises(AnachronError, match=message):
        rows(world, **{"variant": "trigger", **choice})
