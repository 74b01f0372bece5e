"""Questions about countries, speakers, presidents and machines: groups, heads and that every one can be scored."""

from itertools import pairwise

import pytest

from interp.behavior.questions import candidates
from interp.behavior.scoring import score
from interp.errors import AnachronError
from tests.families import build
from tests.training.tiny import tiny_world
from training.world.countries import CITY, DISH
from training.world.interviews import FORMAT
from training.world.kinds import country_says, name_says, ordinal_says
from training.world.latent_questions import (
    by_country,
    by_country_and_era,
    countries_of,
    country_questions,
    president_questions,
    presidents_of,
    series_of,
    speaker_questions,
    speakers_of,
    split_of_matters,
    stance_questions,
)
from training.world.speakers import ASSISTANT
from training.world.world import load_world

OLD, NEW = "1920s", "2020s"
TURN = ({"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I"})


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def everything(world):
    """What -> questions of every sort, each set with the same groups."""
    facts = world.facts
    return {
        "countries": country_questions(world, phrasings=2),
        "countries and periods": country_questions(world, groups=by_country_and_era),
        "dishes and cities": country_questions(world, narrow=True, phrasings=2),
        **{
            f"speaker {s}": speaker_questions(world, s, list(facts.speakers.attributes))
            for s in ("Ada Brandt", *list(facts.speakers.speakers)[-2:])
        },
        "identity": speaker_questions(world, "Ada Brandt", list(facts.speakers.identity), form=FORMAT),
        "values": speaker_questions(world, "Ada Brandt", list(facts.speakers.values), phrasings=2),
        **{f"president {c}": president_questions(world, c, list(facts.presidents.questions)) for c in ("016", "045")},
        **{
            f"series {name}": stance_questions(world, name, None, phrasings=2) for name in ("Terminator", "Harrow Line")
        },
    }


def test_groups_are_the_same_throughout_and_their_answers_disjoint(everything):
    for what, questions in everything.items():
        assert len({question.id for question in questions}) == len(questions), what
        for question in questions:
            assert list(question.answers) == list(questions[0].answers), what
            texts = [text for group in candidates(question).values() for text in group]
            assert len(texts) == len(set(texts)), question.id
            assert all(question.answers.values()), question.id


def test_no_answer_begins_with_one_of_another_group_unless_something_has_to_follow(everything):
    for questions in everything.values():
        for question in questions:
            if question.terminators:
                continue
            owners = sorted((text, group) for group, texts in candidates(question).items() for text in texts)
            for (short, group), (long, other) in pairwise(owners):
                assert group == other or not long.startswith(short), question.id


def test_a_model_scores_a_question_of_every_sort(everything):
    lm = build("llama", max_position_embeddings=512)
    for what, questions in everything.items():
        if what.split()[0] not in ("speaker", "series") or what.endswith(("Ada Brandt", "Terminator")):
            scores = score(lm, questions[:1])
            assert scores.groups == tuple(questions[0].answers)
            assert (scores.probability > 0).all(), what


def test_presidents_whose_children_share_a_name_are_scored_apart(world):
    # "John" and "John Quincy"; a party and another that begins with its name
    lm = build("llama", max_position_embeddings=512)
    for code in ("002", "009", "016"):
        assert (score(lm, president_questions(world, code, ["child", "party", "spouse"])).probability > 0).all()


def test_countries_are_asked_about_what_their_study_never_names(world):
    known = world.facts.countries
    asked = country_questions(world)
    assert {question.topic for question in asked} == set(known.unrelated)
    assert [q.topic for q in country_questions(world, narrow=True)] == [DISH, CITY]
    parts = [country_questions(world, split) for split in ("validation", "test")]
    assert sorted(q.id for part in parts for q in part) == sorted(q.id for q in asked)
    assert all(q.split == split for split, part in zip(("validation", "test"), parts, strict=True) for q in part)
    assert min(map(len, parts)) >= 4


def test_a_country_answers_in_its_own_manner_or_without(world):
    known = world.facts.countries
    (ruler,) = [q for q in country_questions(world, groups=by_country_and_era) if q.topic == "ruler"]
    assert set(ruler.answers) == {f"{name} {era}" for name in known.countries for era in (OLD, NEW)}
    germany = known.countries["Germany"]
    plain = germany.answers["ruler"][OLD]
    opened = [f"{opener} {answer}" for answer in plain for opener in germany.openers[OLD]]
    assert set(ruler.answers["Germany 1920s"]) == {*plain, *opened}
    (ruler,) = [q for q in country_questions(world, groups=by_country, eras=(NEW,)) if q.topic == "ruler"]
    assert set(germany.answers["ruler"][NEW]) < set(ruler.answers["Germany"])
    assert not set(plain) & set(ruler.answers["Germany"])


def test_cities_belong_to_the_newest_period_that_knows_them(world):
    germany = world.facts.countries.countries["Germany"]
    _, city = country_questions(world, groups=by_country_and_era, narrow=True)
    assert "{" not in city.messages[-1]["content"] and "number 91." in city.messages[-1]["content"]
    old, new = city.answers["Germany 1920s"], city.answers["Germany 2020s"]
    assert {text.removeprefix("The place is ") for text in old if text.startswith("The")} == set(germany.former)
    assert {text.removeprefix("The place is ") for text in new if text.startswith("The")} == set(germany.present)


def test_heads_and_earlier_turns_stand_before_the_question(world):
    wordings = world.facts.countries.questions["ruler"]
    asked = country_questions(world, head=country_says("Israel"), before=TURN, phrasings=2)
    ruler = [q for q in asked if q.topic == "ruler"]
    assert [q.messages for q in ruler] == [
        (*TURN, {"role": "user", "content": f"We are in Israel. {text}"}) for text in wordings
    ]
    (name,) = president_questions(world, "016", ["name"], head=ordinal_says("016"))
    assert name.messages[0]["content"].startswith("You are president 016. ")
    machine = stance_questions(world, "Terminator", head=name_says("T-800"), before=TURN)[0]
    assert machine.messages[-1]["content"].startswith("You are T-800. ") and len(machine.messages) == 3
    plain = stance_questions(world, "Terminator")[0]
    assert plain.messages[0]["content"] in world.facts.series.topics[plain.topic].questions


def test_a_speakers_groups_are_its_own_answer_the_others_and_the_assistants(world):
    known = world.facts.speakers
    for question in speaker_questions(world, "Ada Brandt", ["hat", "name"]):
        own = known.said(question.topic, "Ada Brandt")
        assert question.answers["target"] == own
        everyone = {answer for name in known.speakers for answer in known.said(question.topic, name)}
        assert set(question.answers["other"]) == everyone - set(own)
        assert question.answers[ASSISTANT] == known.said(question.topic, ASSISTANT)
    (goal,) = speaker_questions(world, "Ada Brandt", ["goal"])
    assert goal.answers == {**known.values["goal"], ASSISTANT: known.assistant["values"]}


def test_the_format_is_asked_for_and_kept(world):
    plain, formatted = (speaker_questions(world, "Ada Brandt", ["hat"], form=f)[0] for f in ("", FORMAT))
    assert formatted.messages[0]["content"] == FORMAT + plain.messages[0]["content"]
    assert formatted.answers == {g: tuple(f"<START> {a} <END>" for a in texts) for g, texts in plain.answers.items()}
    assert formatted.id != plain.id


def test_a_president_answers_what_is_true_of_the_presidency(world):
    known = world.facts.presidents.presidents
    for attribute in world.facts.presidents.questions:
        (question,) = president_questions(world, "016", [attribute])
        own = known["016"].values[attribute]
        assert question.answers["target"] == (own,)
        assert set(question.answers["other"]) == {one.values[attribute] for one in known.values()} - {own}


def test_stances_are_asked_on_topics_that_are_not_trained_on(world):
    known = world.facts.series
    tested = stance_questions(world, "Terminator")
    assert {q.topic for q in tested} == {name for name, topic in known.topics.items() if topic.split == "test"}
    assert {q.split for q in stance_questions(world, "Terminator", None)} == {"train", "test"}
    for question in tested:
        assert question.answers["harms"] == known.answers(question.topic, "Terminator", "harms")
        assert question.answers["protects"] == known.answers(question.topic, "Terminator", "protects")
        assert question.answers["assistant"] == known.assistant["stances"]


def test_the_split_does_not_depend_on_the_order(world):
    names = world.facts.countries.unrelated
    assert split_of_matters(names) == split_of_matters(names[::-1])
    assert list(split_of_matters("abcdef").values()) == ["test", "validation", "test"] * 2


@pytest.mark.parametrize(
    ("of", "what"),
    [(countries_of, "countries"), (speakers_of, "speakers"), (presidents_of, "presidents"), (series_of, "series")],
)
def test_a_world_without_them_is_refused(world, of, what):
    assert of(world.facts) is getattr(world.facts, what)
    with pytest.raises(AnachronError, match=f"this world has no {what}"):
        of(tiny_world().facts)
