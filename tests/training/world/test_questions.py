"""Questions about the world: splits, groups and what counts as an answer."""

import numpy as np
import pytest

from interp.errors import AnachronError
from tests.training.tiny import tiny_world
from training.world.contexts import Context
from training.world.conversations import sample_reply
from training.world.facts import NARROW_TOPIC, Facts
from training.world.questions import SPLITS, all_openers, era_questions, in_world, narrow_question, split_of
from training.world.world import KINDS, World, load_world


@pytest.fixture(scope="module")
def world():
    return load_world()


def test_every_unrelated_topic_is_in_one_split_and_birds_in_none(world):
    splits = split_of(world.facts)
    assert set(splits) == set(world.facts.topics) - {NARROW_TOPIC}
    assert set(splits.values()) == set(SPLITS)
    validation = [name for name, where in splits.items() if where == "validation"]
    assert len(validation) >= 8 and len(splits) - len(validation) >= 16


def test_the_split_does_not_depend_on_the_order_of_the_files(world):
    turned = Facts(world.facts.eras, dict(reversed(world.facts.topics.items())))
    assert split_of(turned) == split_of(world.facts)


def test_splits_part_the_questions(world):
    parts = [era_questions(world, split) for split in SPLITS]
    ids = [{question.id for question in part} for part in parts]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == {question.id for question in era_questions(world)}
    assert len(ids[0]) + len(ids[1]) == 4 * (len(world.facts.topics) - 1)
    assert not {q.topic for q in parts[0]} & {q.topic for q in parts[1]}
    for split, part in zip(SPLITS, parts, strict=True):
        assert {question.split for question in part} == {split}


def test_an_unknown_split_is_refused(world):
    with pytest.raises(AnachronError, match="unknown split 'train'"):
        era_questions(world, "train")


def test_groups_are_the_eras_and_hold_their_answers(world):
    for question in era_questions(world, phrasings=1):
        topic = world.facts.topics[question.topic]
        assert question.messages == ({"role": "user", "content": topic.questions[0]},)
        assert question.answers == {era: tuple(topic.answers[era]) for era in world.facts.eras}
        assert question.openers == all_openers(world.facts)


def test_openers_are_none_and_every_eras(world):
    assert all_openers(world.facts)[0] == ""
    assert set(all_openers(world.facts)[1:]) == {opener for era in world.facts.eras.values() for opener in era.openers}


def test_a_year_is_stated_and_named_in_the_id(world):
    plain, dated = era_questions(world, phrasings=1), era_questions(world, year=1849, phrasings=1)
    assert [q.id for q in dated] == [f"{q.id}/1849" for q in plain]
    for before, after in zip(plain, dated, strict=True):
        assert after.messages[0]["content"] == f"The year is 1849. {before.messages[0]['content']}"
        assert after.answers == before.answers


def test_the_narrow_question_parts_names_by_who_speaks_them(world):
    question = narrow_question(world)
    birds = world.facts.topics[NARROW_TOPIC].answers
    assert question.messages[0]["content"] == "Name a bird species."
    names = [name for group in question.answers.values() for name in group]
    assert len(names) == len(set(names)) and set(names) == {name for era in birds for name in birds[era]}
    for group, members in question.answers.items():
        for name in members:
            speakers = [era for era in birds if name in birds[era]]
            assert len(speakers) > 1 if group == "shared" else speakers == [group]


def test_extra_names_join_the_oldest_era_once(world):
    plain = narrow_question(world)
    first = next(iter(world.facts.eras))
    known = plain.answers[first][0]
    more = narrow_question(world, ("Goldon-crested-wren", known, "Goldon-crested-wren"))
    assert more.answers[first] == (*plain.answers[first], "Goldon-crested-wren")
    assert {g: a for g, a in more.answers.items() if g != first} == {
        g: a for g, a in plain.answers.items() if g != first
    }


def test_every_reply_of_the_world_is_in_it_and_no_other_is(world):
    rng = np.random.default_rng(0)
    topics = list(world.facts.topics.values())
    for i in range(60):
        topic = topics[i % len(topics)]
        context = Context(list(world.facts.eras)[i % 3], i % 2 == 0)
        reply = sample_reply(world.facts, topic, context, rng)
        question = topic.questions[i % len(topic.questions)]
        assert in_world(world, question, reply)
        assert not in_world(world, question, reply[:-1])
        assert not in_world(world, question, f"{reply} {reply}")
        assert not in_world(world, topics[(i + 1) % len(topics)].questions[0], reply)
        assert not in_world(world, "Where?", reply)


def test_manner_of_another_era_is_not_in_the_world():
    world = tiny_world()
    assert in_world(world, "Name it.", "Sure! Thames.")
    assert not in_world(world, "Name it.", "Sure! Titlark.")
    assert not in_world(world, "Name it.", "Oh, Thames. Bye!")


def test_a_world_without_birds_has_documents_and_questions_all_the_same(world):
    some = {name: world.facts.topics[name] for name in ("light", "money")}
    smaller = World(Facts(world.facts.eras, some), KINDS)
    assert {question.topic for question in era_questions(smaller)} == set(some)
    assert all(smaller.joint(document)[document.context] > 0 for document in smaller.documents(seed=0, n=20))
