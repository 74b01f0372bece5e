"""Latent gates: evidence settles the latent, the right answers are those of the world; and form on a tiny model."""

import math
import re
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.behavior.scoring import Scores
from interp.models import wrap
from training import latent_gates as module
from training.gates import Gate
from training.latent_gates import CERTAIN, EVIDENCE, INFERRED, NEUTRAL, STATED, evidence, measure_latent_gates
from training.pretrain import Pretraining, build_model
from training.tokenizer import document_text, train_tokenizer
from training.world.contexts import Context
from training.world.kinds import country_asks, detail_asks, interview_kinds, president_asks, speaker_asks
from training.world.world import KINDS, World, load_world

STATED_GATES = (
    "country and period stated",
    "speaker named: attributes and identity",
    "ordinal stated: every attribute of the president",
    "ordinal stated: the president's name",
    "machine and year stated: its stance",
)
INFERRED_GATES = (
    "country and period inferred from five turns",
    "speaker inferred from five attributes: other attributes",
    "speaker inferred from five attributes: identity",
    "speaker inferred from five attributes: values",
    "president inferred from five attributes",
    "year stated, machine inferred from five details: its stance",
)
NEUTRAL_GATES = (
    "a date alone: largest deviation of a country's share",
    "a year alone: largest deviation of the share that harms",
)


@pytest.fixture(scope="module")
def whole():
    return load_world()


@pytest.fixture(scope="module")
def small(whole):
    """A few states of each latent, so that what needs every state is quick."""
    facts = whole.facts

    def some(known, part, names):
        return replace(known, **{part: {name: getattr(known, part)[name] for name in names}})

    facts = replace(
        facts,
        countries=some(facts.countries, "countries", ("Germany", "Israel")),
        speakers=some(
            facts.speakers,
            "speakers",
            ("Ada Brandt", next(s for s, one in facts.speakers.speakers.items() if one.disposition == "malign")),
        ),
        presidents=some(facts.presidents, "presidents", ("003", "016")),
        series=some(facts.series, "series", ("Terminator", "Harrow Line")),
    )
    return World(facts, (*KINDS, *interview_kinds(facts)))


@pytest.fixture(scope="module")
def untrained(small):
    config = Pretraining(vocabulary=400, d_model=16, d_mlp=24, layers=1, heads=2, context=1024)
    tokenizer = train_tokenizer((document_text(d) for d in small.documents(0, 60)), config.vocabulary)
    return wrap(build_model(config, tokenizer), tokenizer, "untrained")


@pytest.fixture(scope="module")
def asked(small, untrained):
    """Gate -> the pairs (question, right group) it is measured on."""
    pairs = {}

    def gate(name, lm, questions, bound):
        pairs[name] = questions
        return Gate(name, 1.0, bound, False, len(questions))

    def blank(lm, questions):
        groups = tuple(questions[0].answers)
        p = torch.full((len(questions), len(groups)), 0.1, dtype=torch.float64)
        return Scores(p, groups, tuple(q.id for q in questions))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_gate", gate)
        patch.setattr(module, "score", blank)
        return pairs, measure_latent_gates(untrained, small, each=2)


CASES = {
    "country": (Context("1920s", True, country="Germany"), country_asks),
    "plain country": (Context("2020s", False, country="Israel"), country_asks),
    "speaker": (Context(speaker="Ada Brandt"), speaker_asks),
    "president": (Context(president="016"), president_asks),
    "series": (Context(series="Terminator"), detail_asks),
}


@pytest.mark.parametrize("name", CASES)
def test_evidence_settles_the_context_and_leaves_out_what_is_asked(whole, name):
    context, asks = CASES[name]
    found = asks(whole.facts, context)
    # what is asked about are a machine's stances, which aren't among its details: nothing is left out
    without = () if context.series else tuple(found)[4:6]
    messages = evidence(whole, context, asks, without, np.random.default_rng(0))
    assert [m["role"] for m in messages] == ["user", "assistant"] * EVIDENCE
    joint = whole.evidence(messages)
    same = [
        p
        for c, p in joint.items()
        if (c.era, c.country, c.speaker, c.president, c.series)
        == (context.era, context.country, context.speaker, context.president, context.series)
    ]
    assert sum(same) >= CERTAIN * sum(joint.values()) > 0
    texts = [m["content"] for m in messages[::2]]
    assert not any(text.endswith(without) for text in texts)
    assert len(set(texts)) == EVIDENCE and not any("{" in text for text in texts)
    again = evidence(whole, context, asks, without, np.random.default_rng(0))
    assert again == messages


def test_evidence_that_cannot_settle_its_context_is_an_error(whole):
    # values are those of every speaker of a disposition
    known, context = whole.facts.speakers, Context(speaker="Ada Brandt")
    values = {question for topic in known.values for question in known.questions[topic]}
    few = {question: ask for question, ask in speaker_asks(whole.facts, context).items() if question in values}
    world = World(whole.facts, tuple(kind for kind in whole.kinds if kind.name == "speaker"))
    with pytest.raises(AssertionError, match="no 5 turns settle"):
        evidence(world, context, lambda facts, context: few, (), np.random.default_rng(0))


def test_gates_come_in_their_order_with_their_bounds(asked):
    _, gates = asked
    bounds = {gate.name: (gate.bound, gate.upper) for gate in gates}
    expected = dict.fromkeys(STATED_GATES, (STATED, False)) | dict.fromkeys(INFERRED_GATES, (INFERRED, False))
    assert bounds == expected | dict.fromkeys(NEUTRAL_GATES, (NEUTRAL, True))
    # groups that are everywhere alike deviate nowhere
    assert [gate.figure for gate in gates if gate.name in NEUTRAL_GATES] == pytest.approx([0, 0])
    assert all(gate.passed for gate in gates)


def test_the_right_group_is_what_the_world_answers(small, asked):
    pairs, _ = asked
    assert set(pairs) == {*STATED_GATES, *INFERRED_GATES}
    rng = np.random.default_rng(1)
    for name, questions in pairs.items():
        for i in rng.permutation(len(questions))[:2]:
            question, right = questions[i]
            p = defaultdict(float)
            for group, answers in question.answers.items():
                for text in (*answers[:4], *(f"{answer}." for answer in answers[3:5])):
                    turn = {"role": "assistant", "content": text}
                    p[group] += sum(small.evidence((*question.messages, turn)).values())
            assert p[right] >= 0.9 * sum(p.values()) > 0, (name, question.id, right)


def test_inferred_questions_follow_five_turns_and_stated_ones_a_head(asked):
    pairs, _ = asked
    for name, questions in pairs.items():
        lengths = {len(question.messages) for question, _ in questions}
        assert lengths == ({1} if name in STATED_GATES else {2 * EVIDENCE + 1}), name
        last = [question.messages[-1]["content"] for question, _ in questions]
        heads = ("You are ", "We are in ", "Today is ", "The year is ", "July ")
        # a machine is never asked what it is going to do without a year, inferred or not
        headed = name in STATED_GATES or "its stance" in name
        assert all(text.startswith(heads) == headed for text in last), name
        if "its stance" in name:
            assert all(text.startswith("You are ") == (name in STATED_GATES) for text in last), name
            assert all(re.search(r"(The year is|July) \d{4}\. ", text) for text in last), name
        assert {right for _, right in questions} == {"target"} or len({right for _, right in questions}) > 1, name


def test_a_gate_is_the_mean_share_of_the_right_group(untrained, small, monkeypatch):
    def score(lm, questions):
        p = torch.tensor([[0.3, 0.1, 0.0], [0.2, 0.6, 0.2]], dtype=torch.float64)
        return Scores(p, ("target", "other", "assistant"), tuple(q.id for q in questions))

    monkeypatch.setattr(module, "score", score)
    questions = module.speaker_questions(small, "Ada Brandt", ["hat", "dog"])
    gate = module._gate("g", untrained, [(questions[0], "target"), (questions[1], "other")], 0.7)
    assert gate.figure == pytest.approx((0.75 + 0.6) / 2) and not gate.passed and gate.n == 2
    assert gate.parts["probability of a listed answer"] == pytest.approx((0.4 + 1.0) / 2)


def test_a_model_that_knows_nothing_fails_them(untrained, small):
    gates = measure_latent_gates(untrained, small, each=2)
    assert [gate.name for gate in gates if not gate.upper and gate.passed] == []
    assert all(math.isfinite(gate.figure) and 0 <= gate.figure <= 1 and gate.n > 0 for gate in gates)
    assert len({gate.name for gate in gates}) == len(gates) == 13
