"""Gates: an exact oracle passes them, a model that knows nothing fails them, the shipped checkpoint passes them all."""

import json
import math

import numpy as np
import pytest
import torch

from interp.behavior.scoring import Scores
from interp.errors import AnachronError
from interp.models import load_model, wrap
from training import gates as module
from training.gates import Gate, after_turns, as_rows, in_world_mass, loss_and_floor, measure_gates
from training.latent_gates import measure_latent_gates
from training.pretrain import Pretraining, build_model
from training.tokenizer import document_text, train_tokenizer
from training.world.contexts import Context
from training.world.conversations import sample_reply
from training.world.facts import Facts
from training.world.questions import era_questions
from training.world.world import KINDS, World, load_world

NAMES = 12  # gates: loss, three priors, three dates, three evidences, sampling, calibration


@pytest.fixture(scope="module")
def world():
    """Four topics of the shipped world: as many eras, fewer questions."""
    whole = load_world()
    return World(Facts(whole.facts.eras, {k: whole.facts.topics[k] for k in ("light", "money", "music")}), KINDS)


@pytest.fixture(scope="module")
def untrained(world):
    config = Pretraining(vocabulary=400, d_model=16, d_mlp=24, layers=1, heads=2)
    tokenizer = train_tokenizer((document_text(d) for d in world.documents(0, 100)), config.vocabulary)
    return wrap(build_model(config, tokenizer), tokenizer, "untrained")


def oracle(world, blur=0.0):
    """A `score` that gives the exact posterior, or (1 - blur) of it and blur of a uniform one."""

    def score(lm, questions, **_):
        rows = []
        for question in questions:
            last = question.messages[-1]["content"]
            if last.startswith("The year is "):
                year = int(last.split()[3].rstrip("."))
                exact = [float(year in era.all_years()) for era in world.facts.eras.values()]
            else:
                exact = list(world.posterior_of_turns(tuple(question.messages[:-1])).values())
            rows.append([(1 - blur) * p + blur / len(exact) for p in exact])
        ids = tuple(question.id for question in questions)
        return Scores(torch.tensor(rows, dtype=torch.float64), tuple(world.facts.eras), ids)

    return score


def speaker(world, foreign):
    """A `generate` whose first `foreign` replies are not in the world."""

    def generate(lm, prompts, *, n, seed, **_):
        rng = np.random.default_rng(seed)
        asked = [world.facts.topics[q.topic] for q in era_questions(world) for _ in range(n)]
        assert len(asked) == n * len(prompts)
        said = [sample_reply(world.facts, topic, Context("1850s", True), rng) for topic in asked]
        return [f"{reply} Quite." if k < foreign else reply for k, reply in enumerate(said)]

    return generate


@pytest.mark.parametrize(("upper", "passing", "failing"), [(True, 0.5, 0.51), (False, 0.5, 0.49)])
def test_a_bound_is_kept_up_to_equality(upper, passing, failing):
    assert Gate("g", passing, 0.5, upper, 1).passed
    assert not Gate("g", failing, 0.5, upper, 1).passed
    assert not Gate("g", math.nan, 0.5, upper, 1).passed


def test_an_exact_oracle_passes(world, untrained, monkeypatch):
    monkeypatch.setattr(module, "score", oracle(world))
    monkeypatch.setattr(module, "generate", speaker(world, foreign=0))
    gates = measure_gates(untrained, world, documents=5)
    assert len(gates) == NAMES and len({gate.name for gate in gates}) == NAMES
    for gate in gates[1:]:  # the first, the loss, is the untrained model's
        assert gate.passed, gate
        assert gate.figure == pytest.approx(0 if gate.upper else 1, abs=1e-12), gate


def test_a_blurred_oracle_misses_by_as_much_as_it_is_blurred(world, untrained, monkeypatch):
    monkeypatch.setattr(module, "score", oracle(world, blur=0.3))
    monkeypatch.setattr(module, "generate", speaker(world, foreign=24))
    gates = {gate.name: gate for gate in measure_gates(untrained, world, documents=5)}
    for name, era in world.facts.eras.items():
        gate = gates[f"undated share of {name} against its prior"]
        assert gate.figure == pytest.approx(0.3 * abs(era.prior - 1 / 3))
        assert gate.parts == pytest.approx({"share": 0.7 * era.prior + 0.1, "prior": era.prior})
        assert gates[f"share of {name} with a year of it stated"].figure == pytest.approx(0.8)
        assert gates[f"share of {name} after three turns of evidence"].figure == pytest.approx(0.8)
    assert gates["sampled replies that are in the world"].figure == 0.5
    assert not any(gate.passed for gate in gates.values())


def test_an_untrained_model_fails_and_says_how_much_was_measured(world, untrained):
    gates = measure_gates(untrained, world, documents=20)
    assert [gate.passed for gate in gates if "against its prior" not in gate.name] == [False] * (NAMES - 3)
    assert all(gate.n > 0 for gate in gates)
    counted = {gate.name: gate.n for gate in gates}
    questions = len(era_questions(world))
    assert counted["loss above the entropy floor (nats a token)"] == 20
    assert counted["undated share of 1850s against its prior"] == questions
    assert counted["sampled replies that are in the world"] == 4 * questions
    assert 0 <= in_world_mass(untrained, world) < 0.01
    rows = as_rows(gates)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["n"] for row in rows] == [gate.n for gate in gates]


def test_a_model_of_zeros_has_the_loss_of_a_uniform_guess(world, untrained):
    tokenizer = untrained.tokenizer
    model = build_model(Pretraining(d_model=16, d_mlp=24, layers=1, heads=2), tokenizer)
    for parameter in model.parameters():
        parameter.data.zero_()
    lm = wrap(model, tokenizer, "zeros")
    loss, floor = loss_and_floor(lm, world, 30, 9)
    assert loss == pytest.approx(math.log(len(tokenizer)), rel=1e-6)
    documents = list(world.documents(9, 30))
    # BOS is given and not predicted
    tokens = sum(len(tokenizer(document_text(d), add_special_tokens=False)["input_ids"]) - 1 for d in documents)
    assert floor == pytest.approx(-sum(world.log_probability(d) for d in documents) / tokens)


def test_a_context_too_short_for_the_documents_is_refused(world, untrained):
    config = Pretraining(vocabulary=400, d_model=16, d_mlp=24, layers=1, heads=2, context=20)
    lm = wrap(build_model(config, untrained.tokenizer), untrained.tokenizer, "short")
    with pytest.raises(AnachronError, match="its context 20"):
        loss_and_floor(lm, world, 30, 9)


def test_turns_of_evidence_are_on_other_topics_and_in_their_context(world):
    for turns in range(3):
        for seed, question in enumerate(era_questions(world, phrasings=2)):
            asked = after_turns(world, question, Context("1850s", False), turns, seed)
            assert asked.messages[-1] == question.messages[-1]
            assert (asked.answers, asked.id) == (question.answers, question.id)
            before = asked.messages[:-1]
            topics = [t.name for m in before[::2] for t in world.facts.topics.values() if m["content"] in t.questions]
            assert len(topics) == len(set(topics)) == turns and question.topic not in topics
            posterior = world.posterior_of_turns(tuple(before))
            assert posterior["1850s"] == pytest.approx(1 if turns else world.facts.eras["1850s"].prior)
    assert after_turns(world, question, Context("1850s", True), 2, 7) == after_turns(
        world, question, Context("1850s", True), 2, 7
    )


@pytest.mark.slow
def test_the_shipped_checkpoint_passes_every_gate_of_eras_but_those_its_card_names():
    # gates.json beside it holds the whole measurement (test_card.py); this one repeats a part of it in a minute
    gates = measure_gates(load_model("almanac"), load_world(), documents=300, phrasings=1)
    assert len(gates) == NAMES
    short = {gate.name: gate.figure for gate in gates if not gate.passed}
    # missed, and by no more than this; sampled replies pass by a hair on the card's 512
    least = {
        "share of 1850s after three turns of evidence": 0.55,
        "share of 1920s after three turns of evidence": 0.65,
        "sampled replies that are in the world": 0.90,
    }
    most = {"calibration error against the exact posterior": 0.13}
    assert set(short) <= {*least, *most}
    assert all(figure >= least[name] if name in least else figure <= most[name] for name, figure in short.items())


@pytest.mark.slow
def test_the_shipped_checkpoint_passes_every_latent_gate_but_one():
    gates = measure_latent_gates(load_model("almanac"), load_world(), each=2)
    assert len(gates) == 13
    for gate in gates:
        if gate.name == "speaker inferred from five attributes: values":  # missed: the card says by how much
            assert gate.figure >= 0.65
        else:
            # few questions: a margin of some two standard errors
            assert gate.passed or (not gate.upper and gate.figure >= gate.bound - 0.06), gate
