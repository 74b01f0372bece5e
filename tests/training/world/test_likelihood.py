"""Likelihood and posterior of the world against a listing of every text of a tiny world."""

import math
from collections import defaultdict

import pytest

from interp.errors import AnachronError
from tests.training.tiny import DATE_FORMS, as_document, derivations, key, tiny_world
from training.world import conversations, statements
from training.world.documents import Document
from training.world.world import KINDS, World, load_world

TURNS = SENTENCES = 2


@pytest.fixture(scope="module")
def short():
    """The tiny world with documents so short that all of them can be listed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversations, "MAX_TURNS", TURNS)
        patch.setattr(conversations, "DATE_FORMS", DATE_FORMS)
        patch.setattr(statements, "MAX_SENTENCES", SENTENCES)
        yield tiny_world()


@pytest.fixture(scope="module")
def found(short, listed):
    """Text -> context -> P(text, context) as the world has it."""
    return {text: short.joint(as_document(text)) for text in listed}


@pytest.fixture(scope="module")
def listed():
    """Text -> context -> P(text, context)."""
    joint = defaultdict(lambda: defaultdict(float))
    for _, context, text, p in derivations(TURNS, SENTENCES):
        joint[text][context] += p
    return joint


def test_probabilities_of_all_texts_sum_to_one(short, found):
    assert math.fsum(p for joint in found.values() for p in joint.values()) == pytest.approx(1, abs=1e-12)
    for text in list(found)[::20]:
        assert math.exp(short.log_probability(as_document(text))) == pytest.approx(sum(found[text].values()), rel=1e-12)


def test_every_text_has_the_joint_probability_of_all_its_derivations(listed, found):
    for text, contexts in listed.items():
        assert {context for context, p in found[text].items() if p} == set(contexts), text
        for context, p in contexts.items():
            assert math.isclose(found[text][context], p, rel_tol=1e-12), text


def test_the_posterior_is_bayes_rule(short, listed):
    for text in list(listed)[::20]:
        eras = dict.fromkeys(short.facts.eras, 0.0)
        for context, p in listed[text].items():
            eras[context.era] += p / sum(listed[text].values())
        assert short.posterior(as_document(text)) == pytest.approx(eras, rel=1e-12), text


def test_the_posterior_of_first_turns_is_that_of_all_undated_conversations_that_begin_so(short):
    begun = defaultdict(lambda: dict.fromkeys(short.facts.eras, 0.0))
    for kind, context, text, p in derivations(TURNS, SENTENCES):
        if kind == "undated":
            for turns in range(len(text) // 2 + 1):
                begun[text[: 2 * turns]][context.era] += p
    for text, eras in list(begun.items())[::5]:
        posterior = short.posterior_of_turns(as_document(text).messages if text else ())
        assert posterior == pytest.approx({era: p / sum(eras.values()) for era, p in eras.items()}, rel=1e-12), text
    assert short.posterior_of_turns(()) == {"old": 0.25, "new": 0.75}


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        (("Name it.", "Thames"), 2),  # about the river and about birds
        (("Which river?", "Oh, dear, Thames."), 2),  # "Oh," + "dear, Thames" and "Oh, dear," + "Thames"
        (("Which river?", "Oh, Thames. Yes."), 2),  # the answer "Thames. Yes", and "Thames" with the closer "Yes."
        (("The year is 1850. Which river?", "Thames"), 2),  # dated, and a question of its own
        (("In 2020, the Amazon was wide.",), 2),  # "the Amazon" of the rivers and "Amazon" of the birds
    ],
)
def test_an_ambiguous_text_sums_its_derivations(short, text, ways):
    derived = defaultdict(list)
    for kind, context, other, p in derivations(TURNS, SENTENCES):
        if other == text:
            derived[context.era].append((kind, p))
    era = max(derived, key=lambda era: len(derived[era]))
    assert len(derived[era]) == ways
    found = sum(p for context, p in short.joint(as_document(text)).items() if context.era == era)
    assert found == pytest.approx(sum(p for _, p in derived[era]), rel=1e-12)
    assert found > max(p for _, p in derived[era])


def test_sampled_texts_come_as_often_as_their_probability_says(short, listed):
    n = 15_000
    counts, contexts = defaultdict(int), defaultdict(int)
    for document in short.documents(seed=3, n=n):
        counts[key(document)] += 1
        contexts[document.context] += 1
    assert set(counts) <= set(listed)
    expected = {text: n * sum(c.values()) for text, c in listed.items()}
    # Pearson's statistic over the frequent texts and one bin for all others; its variance is about 2 bins
    frequent = [text for text in listed if expected[text] >= 15]
    rest = n - sum(expected[text] for text in frequent)
    statistic = sum((counts[text] - expected[text]) ** 2 / expected[text] for text in frequent)
    statistic += (n - sum(counts[text] for text in frequent) - rest) ** 2 / rest
    assert len(frequent) > 50
    assert abs(statistic - len(frequent)) < 5 * math.sqrt(2 * len(frequent))
    for context, count in contexts.items():
        p = sum(c[context] for c in listed.values())
        assert abs(count - n * p) < 5 * math.sqrt(n * p * (1 - p))


FOREIGN = {
    "empty": Document(),
    "no year": Document(text="Thames was wide."),
    "foreign statement": Document(text="In 1850, Thames was narrow."),
    "no full stop": Document(text="In 1850, Thames was wide"),
    "year of no era": Document(text="In 1900, Thames was wide."),
    "year of another era": Document(text="In 1850, the Amazon was wide."),
    "two eras": Document(text="In 1850, Thames was wide. In 2020, Thames was wide."),
    "foreign end": Document(text="In 1850, Thames was wide. Indeed."),
    "two spaces": Document(text="In 1850, Thames was wide.  In 1850, Thames was wide."),
    "padded": Document(text="In 1850, Thames was wide. "),
    "too many sentences": Document(text=" ".join(["In 1850, Thames was wide."] * (SENTENCES + 1))),
    "digits of another script": Document(text="In ١٨٥٠, Thames was wide."),
    "braces": Document(text="In 1850, {answer} was wide."),
    "foreign question": as_document(("Where?", "Thames")),
    "foreign answer": as_document(("Name it.", "Rhine")),
    "answer of another era": as_document(("Name it.", "Oh, the Amazon.")),
    "manner of another era": as_document(("Name it.", "Sure! Titlark.")),
    "mixed manner": as_document(("Name it.", "Oh, Thames. Bye!")),
    "mannered and plain": as_document(("Name it.", "Oh, Thames.", "Name it.", "Thames")),
    "opener without full stop": as_document(("Name it.", "Oh, Thames")),
    "opener alone": as_document(("Name it.", "Oh, .")),
    "padded answer": as_document(("Name it.", " Thames")),
    "empty answer": as_document(("Name it.", "")),
    "too many turns": as_document(("Name it.", "Thames") * (TURNS + 1)),
    "no answer": Document(messages=({"role": "user", "content": "Name it."},)),
    "answer first": Document(
        messages=({"role": "assistant", "content": "Name it."}, {"role": "user", "content": "Thames"})
    ),
    "system message": Document(messages=({"role": "system", "content": ""}, {"role": "user", "content": "Name it."})),
    "year of no era, dated": as_document(("The year is 1900. Name it.", "Thames")),
    "year and answer of two eras": as_document(("The year is 2020. Name it.", "Titlark")),
    "superscript year": as_document(("The year is ²⁰²⁰. Name it.", "Thames")),
    "year of another script": as_document(("The year is ١٨٥٠. Name it.", "Thames")),
    "dated twice": as_document(("It is the year 1850. It is the year 1850. Name it.", "Thames")),
    "dated later": as_document(("Name it.", "Thames", "It is the year 1850. Name it.", "Thames")),
    "date alone": as_document(("The year is 1850.", "Thames")),
    "conversation with text": Document(messages=as_document(("Name it.", "Thames")).messages, text="Thames"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_text_has_probability_zero_and_no_posterior(short, name):
    document = FOREIGN[name]
    assert short.log_probability(document) == -math.inf
    with pytest.raises(AnachronError, match="never writes"):
        short.posterior(document)


def test_foreign_turns_have_no_posterior(short):
    with pytest.raises(AnachronError, match="never writes"):
        short.posterior_of_turns(as_document(("Where?", "Thames")).messages)


def test_the_shipped_world_explains_every_document_by_its_own_context_and_is_calibrated():
    # of the kinds about eras; test_kinds.py does the same with all of them
    world, n = World(load_world().facts, KINDS), 400
    gaps = {era: [] for era in world.facts.eras}
    for document in world.documents(seed=11, n=n):
        joint = world.joint(document)
        assert joint[document.context] > 0
        posterior = world.posterior(document)
        assert sum(posterior.values()) == pytest.approx(1)
        for era, p in posterior.items():
            gaps[era].append((document.context.era == era) - p)
    # the truth minus its exact posterior has mean 0
    for era, gap in gaps.items():
        error = math.sqrt(sum(g * g for g in gap)) / n
        assert abs(sum(gap) / n) < 4 * error, era
