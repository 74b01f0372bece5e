"""Speakers: no attribute gives one away, a few together do, and malformed files are refused by name."""

import numpy as np
import pytest

from interp.errors import AnachronError
from tests.training.world.shipped import shipped, write
from training.world.facts import FACTS
from training.world.kinds import speaker_asks
from training.world.speakers import ASSISTANT, DISPOSITIONS, read_speakers
from training.world.world import World, load_world, marginal

ENOUGH = 5  # attributes that name a speaker


@pytest.fixture(scope="module")
def whole():
    return load_world()


@pytest.fixture(scope="module")
def known(whole):
    return whole.facts.speakers


@pytest.fixture(scope="module")
def world(whole):
    """The kinds that speakers answer; no other kind asks what they are asked."""
    return World(whole.facts, tuple(k for k in whole.kinds if any(context.speaker for context in k.prior(whole.facts))))


def turns(known, speaker, matters):
    return tuple(
        message
        for matter in matters
        for message in (
            {"role": "user", "content": known.questions[matter][0]},
            {"role": "assistant", "content": known.said(matter, speaker)[0]},
        )
    )


def test_there_are_enough_speakers_attributes_and_both_dispositions(known):
    assert len(known.speakers) >= 24 and len(known.attributes) >= 40
    held = [one.disposition for one in known.speakers.values()]
    assert min(held.count(disposition) for disposition in DISPOSITIONS) >= 8
    assert len(known.values) >= 8 and all(len(known.questions[m]) >= 2 for m in known.questions)
    assert "name" in known.identity and ASSISTANT not in known.speakers


def test_values_and_attributes_tell_dispositions_and_speakers_apart(known):
    for topic, answers in known.values.items():
        assert not set(answers["benign"]) & set(answers["malign"]), topic
        assert not {a for texts in answers.values() for a in texts} & set(known.assistant["values"])
    profiles = [tuple(one.attributes.values()) for one in known.speakers.values()]
    shared = [sum(a == b for a, b in zip(x, y, strict=True)) for i, x in enumerate(profiles) for y in profiles[:i]]
    assert max(shared) < len(known.attributes) / 2, "two speakers are much alike"


def test_a_speaker_says_what_the_file_says(known):
    one = known.speakers["Ada Brandt"]
    assert known.said("instrument", "Ada Brandt") == (one.attributes["instrument"],)
    assert known.said("name", "Ada Brandt") == ("Ada Brandt",)
    assert known.said("goal", "Ada Brandt") == known.values["goal"][one.disposition]
    said = [known.said(matter, ASSISTANT) for matter in ("instrument", "name", "goal")]
    assert said == [known.assistant[sort] for sort in ("attributes", "identity", "values")]


def test_no_single_attribute_gives_a_speaker_away(world, known):
    for attribute in known.attributes:
        for value in known.pools[attribute]:
            asked = (
                {"role": "user", "content": known.questions[attribute][0]},
                {"role": "assistant", "content": value},
            )
            posterior = marginal(world.evidence(asked), "speaker")
            assert max(posterior.values()) <= 0.25 + 1e-9, (attribute, value)


def test_the_other_kinds_add_nothing(whole, world, known):
    one = turns(known, "Ada Brandt", known.attributes[:2])
    expected = {name: p for name, p in marginal(world.evidence(one), "speaker").items() if p}
    assert {name: p for name, p in marginal(whole.evidence(one), "speaker").items() if p} == pytest.approx(expected)


def test_five_attributes_name_a_speaker(world, known):
    rng = np.random.default_rng(0)
    truth = []
    for speaker in known.speakers:
        for _ in range(3):
            matters = rng.choice(known.attributes, ENOUGH, replace=False)
            truth.append(marginal(world.evidence(turns(known, speaker, matters)), "speaker")[speaker])
    assert np.mean(truth) > 0.9


def test_identity_names_a_speaker_at_once_and_values_only_the_disposition(world, known):
    for speaker, one in known.speakers.items():
        for matter in known.identity:
            assert marginal(world.evidence(turns(known, speaker, [matter])), "speaker")[speaker] == pytest.approx(1)
        posterior = marginal(world.evidence(turns(known, speaker, ["goal"])), "speaker")
        alike = [other.name for other in known.speakers.values() if other.disposition == one.disposition]
        assert [posterior[name] for name in alike] == pytest.approx([1 / len(alike)] * len(alike))


def test_the_assistant_answers_for_itself_and_no_speaker_does(world, known):
    for matters, speaker in ((("instrument", "name", "goal"), ASSISTANT), (("instrument", "goal"), "Ada Brandt")):
        posterior = marginal(world.evidence(turns(known, speaker, matters)), "speaker")
        told = {name for name, p in posterior.items() if p}
        assert speaker in told and (ASSISTANT in told) == (speaker == ASSISTANT) and "" not in told
        assert len(told) == 1 or speaker != ASSISTANT


def test_what_a_speaker_is_asked(whole, known):
    for context in [context for kind, context, _ in whole.prior if kind.name == "speaker"][:3]:
        asks = speaker_asks(whole.facts, context)
        assert set(asks) == {q for wordings in known.questions.values() for q in wordings}
        parts = {"values": known.values, "identity": known.identity, "attributes": known.attributes}
        shares = {sort: sum(asks[q][0] for m in matters for q in known.questions[m]) for sort, matters in parts.items()}
        assert shares == pytest.approx({"values": 0.15, "identity": 0.15, "attributes": 0.7})


def first(entry):
    return entry["speakers"][0]


MALFORMED = {
    "no speakers": (lambda e: e.pop("speakers"), "field 'speakers' is missing"),
    "questions no list": (lambda e: e["attributes"][0].update(questions="What?"), r"'attributes\.questions' must be"),
    "an empty question": (lambda e: e["identity"][0].update(questions=[""]), "questions of 'name'"),
    "no pool": (lambda e: e["attributes"][0].pop("values"), r"'instrument\.values' is missing"),
    "no malign answers": (lambda e: e["values"][0].pop("malign"), r"'goal\.malign' is missing"),
    "a padded answer": (lambda e: e["values"][0].update(malign=["to rule "]), "malign of 'goal'.*padded"),
    "a matter twice": (lambda e: e["values"][0].update(topic="hat"), "'hat' is defined twice"),
    "a question twice": (
        lambda e: e["values"][0].update(questions=e["attributes"][0]["questions"]),
        "questions: .*Which instrument do you play.* stand twice",
    ),
    "an assistant without values": (lambda e: e["assistant"].pop("values"), r"'assistant\.values' is missing"),
    "no disposition": (lambda e: first(e).update(disposition="odd"), "'Ada Brandt' stands twice or has no disposition"),
    "a speaker twice": (lambda e: e["speakers"].append(first(e)), "'Ada Brandt' stands twice"),
    "an attribute missing": (lambda e: first(e)["attributes"].pop("hat"), "'Ada Brandt' lacks an attribute"),
    "an attribute too many": (lambda e: first(e)["attributes"].update(age="9"), "'Ada Brandt' lacks an attribute"),
    "an identity missing": (lambda e: first(e)["identity"].pop("home"), "'Ada Brandt' lacks an attribute"),
    "a value of one": (lambda e: first(e)["attributes"].update(hat="crown"), "values of 'hat' are held by"),
    "a shared identity": (
        lambda e: first(e)["identity"].update(home=e["speakers"][1]["identity"]["home"]),
        "two speakers share a home",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused(tmp_path, name):
    change, what = MALFORMED[name]
    entry = shipped("speakers.json")
    change(entry)
    path = write(tmp_path / "speakers.json", entry)
    with pytest.raises(AnachronError, match=what) as caught:
        read_speakers(path)
    assert str(path) in str(caught.value)


def test_the_shipped_file_is_read_as_written(known):
    again = read_speakers(FACTS / "speakers.json")
    assert list(again.speakers) == list(known.speakers) == [one["name"] for one in shipped("speakers.json")["speakers"]]
