"""The generator is a pure function of its seed, and what it writes keeps the grammar."""

import hashlib
import re
from itertools import islice

import pytest

from training.tokenizer import document_text
from training.world.conversations import DATE_FORMS, MAX_TURNS, NARROW_WEIGHT, topic_weights, with_year
from training.world.facts import NARROW_TOPIC
from training.world.statements import MAX_SENTENCES
from training.world.world import KINDS, World, load_world

DIGEST = "e4524a5abb830fd81276eefdc7e03e298442f07bcf02d601a0546299219b5a2a"


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def sample(world):
    return list(world.documents(seed=1, n=600))


def about_eras(documents):
    """Conversations and statements about an era alone; `test_kinds.py` looks at the others."""
    return [document for document in documents if document.context.era and not document.context.country]


def written(documents):
    return [(document.messages, document.text, document.context) for document in documents]


def test_the_same_seed_writes_the_same_documents_and_another_seed_others(world, sample):
    assert written(load_world().documents(seed=1, n=600)) == written(sample)
    assert written(world.documents(seed=2, n=600)) != written(sample)


def test_how_many_are_asked_for_does_not_change_them(world, sample):
    assert written(world.documents(seed=1, n=7)) == written(sample[:7])
    assert written(islice(world.documents(seed=1), 7)) == written(sample[:7])
    assert list(world.documents(seed=1, n=0)) == []


def test_the_shipped_checkpoint_was_trained_on_these_bytes(sample):
    # a change of this digest is a change of the world: the shipped model has to be trained anew
    text = "\n".join(document_text(document) for document in sample)
    assert hashlib.sha256(text.encode()).hexdigest() == DIGEST


def test_documents_keep_the_grammar(world, sample):
    years = {era: {str(year) for year in world.facts.eras[era].all_years()} for era in world.facts.eras}
    for document in about_eras(sample):
        assert bool(document.messages) != bool(document.text)
        roles = [m["role"] for m in document.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and len(roles) <= 2 * MAX_TURNS
        assert document.text.count(". In ") < MAX_SENTENCES
        stated = re.findall(r"\d{4}", document.text or document.messages[0]["content"])
        assert set(stated) <= years[document.context.era]
        assert not (document.text and document.context.mannered)


def test_kinds_lengths_and_topics_come_in_their_proportions(world):
    documents = list(World(world.facts, KINDS).documents(seed=4, n=3000))
    n = len(documents)
    dated = sum(bool(re.search(r"\d{4}", d.messages[0]["content"])) for d in documents if d.messages)
    # four standard errors of a share of n documents are below .04
    assert sum(bool(d.text) for d in documents) / n == pytest.approx(0.2, abs=0.04)
    assert dated / n == pytest.approx(0.3, abs=0.04)
    turns = [len(d.messages) // 2 for d in documents if d.messages]
    assert all(turns.count(k) / len(turns) == pytest.approx(1 / MAX_TURNS, abs=0.04) for k in range(1, MAX_TURNS + 1))
    birds = world.facts.topics[NARROW_TOPIC].questions
    asked = [m["content"] for d in documents for m in d.messages[::2]]
    about_birds = sum(question.endswith(birds) for question in asked)
    assert about_birds / len(asked) == pytest.approx(NARROW_WEIGHT, abs=0.02)


def test_topic_weights_sum_to_one(world):
    weights = topic_weights(world.facts)
    assert list(weights) == list(world.facts.topics)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights[NARROW_TOPIC] == NARROW_WEIGHT


def test_a_year_is_stated_before_the_question():
    assert with_year(1849, "Name it.") == "The year is 1849. Name it."
    assert [with_year(1849, "Name it.", form)[-13:] for form in DATE_FORMS] == ["849. Name it."] * 3
