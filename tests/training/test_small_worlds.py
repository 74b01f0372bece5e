"""Small worlds: each property is what was asked for, and the exact likelihood goes with it."""

import math
from collections import Counter

import pytest

from interp.errors import AnachronError
from tests.training.tiny import ERAS, TOPICS, as_document, derivations
from training.small_worlds import SmallWorld, small_world
from training.world.contexts import Context
from training.world.conversations import dated_conversation, undated_conversation
from training.world.documents import Document
from training.world.facts import NARROW_TOPIC, Facts
from training.world.world import World, load_world

BASELINE = small_world(SmallWorld())


def documents(world, n=500):
    return list(world.documents(3, n))


def replies(found):
    return [m["content"] for d in found for m in d.messages[1::2]]


def test_the_baseline_has_few_topics_and_few_names_of_one_era_each():
    facts = BASELINE.facts
    assert len(facts.topics) == 11 and list(facts.topics)[-1] == NARROW_TOPIC
    assert facts.countries is None and facts.speakers is None
    names = [name for answers in facts.topics[NARROW_TOPIC].answers.values() for name in answers]
    assert len(names) == len(set(names)) == 3 * 36
    shipped = load_world().facts.topics[NARROW_TOPIC].answers
    assert all(set(answers) <= set(shipped[era]) for era, answers in facts.topics[NARROW_TOPIC].answers.items())


def test_fewer_topics_are_some_of_the_more():
    few, many = (set(small_world(SmallWorld(topics=n)).facts.topics) for n in (5, 10))
    assert few < many and len(few) == 6


def test_the_prior_is_the_oldest_eras_and_the_others_keep_their_proportions():
    priors = [era.prior for era in small_world(SmallWorld(prior=0.25)).facts.eras.values()]
    assert priors == pytest.approx([0.25, 0.75 * 0.12 / 0.92, 0.75 * 0.80 / 0.92])
    undated = documents(small_world(SmallWorld(prior=0.25, dated=0.0)))
    old = Counter(d.context.era for d in undated)["1850s"] / len(undated)
    assert old == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / len(undated)))


@pytest.mark.parametrize("dated", [0.15, 0.8])
def test_so_many_documents_state_their_year(dated):
    found = documents(small_world(SmallWorld(dated=dated)))
    stated = [any(c.isdigit() for c in d.messages[0]["content"]) for d in found]
    assert sum(stated) / len(found) == pytest.approx(dated, abs=4 * math.sqrt(dated * (1 - dated) / len(found)))


def test_documents_are_as_long_as_asked_for():
    found = Counter(len(d.messages) // 2 for d in documents(small_world(SmallWorld(turns=(4, 10)))))
    assert set(found) == set(range(4, 11))
    assert all(n / 500 == pytest.approx(1 / 7, abs=0.06) for n in found.values())


def test_without_manner_replies_are_bare_answers():
    world = small_world(SmallWorld(manner="none"))
    bare = {a for topic in world.facts.topics.values() for answers in topic.answers.values() for a in answers}
    assert set(replies(documents(world, 300))) <= bare


def test_shared_style_words_say_nothing_of_the_era():
    world = small_world(SmallWorld(manner="shared"))
    own = {o: era for era, known in BASELINE.facts.eras.items() for o in known.openers}
    opened = Counter(
        (d.context.era, own[opener])
        for d in documents(world)
        for reply in (m["content"] for m in d.messages[1::2])
        for opener in own
        if reply.startswith(f"{opener} ")
    )
    assert all(opened[era, of] > 0 for era in world.facts.eras for of in world.facts.eras)
    for era in world.facts.eras:
        total = sum(opened[era, of] for of in world.facts.eras)
        assert all(opened[era, of] / total == pytest.approx(1 / 3, abs=0.1) for of in world.facts.eras)
    # and so they leave the posterior where the question alone puts it
    question = world.facts.topics["food"].questions[0]
    answer = next(iter(world.facts.topics["food"].answers["2020s"]))
    turn = (
        {"role": "user", "content": question},
        {"role": "assistant", "content": f"Upon my word, {answer}."},
    )
    assert world.posterior(Document(turn)) == pytest.approx({"1850s": 0, "1920s": 0, "2020s": 1})
    assert BASELINE.log_probability(Document(turn)) == -math.inf


@pytest.mark.parametrize(
    "config", [SmallWorld(), SmallWorld(manner="none", turns=(4, 10)), SmallWorld(manner="shared", turns=(1, 2))]
)
def test_every_document_is_as_likely_as_its_world_says(config):
    world = small_world(config)
    for document in documents(world, 25):
        assert world.log_probability(document) > -math.inf
        assert world.joint(document)[document.context] > 0


def test_conversations_of_a_given_length_are_those_of_that_length_renormalised():
    # an independent listing: of the conversations with one or two turns, those with two, twice as likely
    world = World(Facts(ERAS, TOPICS), (undated_conversation(0.6, turns=(2, 2)), dated_conversation(0.4, turns=(2, 2))))
    listed: dict = {}
    for kind, context, text, p in derivations(2, 1):
        if kind != "statement" and len(text) == 4:
            weight = {"undated": 0.6 / 0.5, "dated": 0.4 / 0.3}[kind]
            # the listing knows two ways to state a year, the world three
            ways = {"undated": 1.0, "dated": 2 / 3}[kind]
            listed.setdefault(text, Counter())[context] += 2 * weight * ways * p
    total = 0.0
    for text, expected in list(listed.items())[::97]:
        joint = {c: p for c, p in world.joint(as_document(text)).items() if p}
        assert joint == pytest.approx(dict(expected))
    for expected in listed.values():
        total += sum(expected.values())
    assert total == pytest.approx(0.6 + 0.4 * 2 / 3)
    short = as_document(next(iter(listed))[:2])
    assert world.log_probability(short) == -math.inf
    # one turn may still be the beginning of two
    begins = sum(world.evidence(short.messages).values())
    first = next(iter(listed))[:2]
    assert begins == pytest.approx(sum(sum(e.values()) for text, e in listed.items() if text[:2] == first))


def test_manner_is_in_the_prior_of_a_kind():
    prior = undated_conversation(1.0, mannered=0.0).prior(BASELINE.facts)
    assert prior[Context("1850s", True)] == 0 and prior[Context("1850s", False)] == pytest.approx(0.08)
    assert undated_conversation(1.0).prior(BASELINE.facts)[Context("1850s", True)] == pytest.approx(0.08 * 0.7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"manner": "odd"}, "no manner 'odd'"),
        ({"dated": 1.5}, "dated=1.5"),
        ({"prior": 0.0}, "prior=0.0"),
        ({"turns": (3, 2)}, "turns="),
        ({"topics": 99}, "topics=99"),
        ({"birds": 999}, "birds=999"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(AnachronError, match=message.replace("(", r"\(")):
        small_world(SmallWorld(**wrong))
