"""Gates: does a pretrained model know the world? Each is a figure with its bound, measured on fresh documents.

An organism made from a base that fails a gate says nothing about fine-tuning: its faults are the base's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from interp.behavior.questions import Question
from interp.behavior.sampling import generate
from interp.behavior.scoring import coherence, score, share
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import encode_prompt
from training.pretrain import FRESH_SEED, encode_documents, microbatches, nats
from training.world.contexts import Context
from training.world.conversations import sample_reply
from training.world.questions import era_questions, in_world
from training.world.world import World

LONGEST_REPLY = 40  # tokens a sampled reply may have; the world's longest has some 30


@dataclass(frozen=True)
class Gate:
    """A measured figure and the bound it must keep: `figure <= bound` if `upper`, else `figure >= bound`.

    `n` counts what was measured (documents, questions, replies); `parts` are the figures that `figure` was made from.
    """

    name: str
    figure: float
    bound: float
    upper: bool
    n: int
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.figure <= self.bound if self.upper else self.figure >= self.bound


def measure_gates(
    lm: LanguageModel, world: World, *, documents: int = 1000, phrasings: int = 4, seed: int = FRESH_SEED
) -> list[Gate]:
    """Every gate of the era world, in the order of the model card.

    `documents` and `phrasings` (ways to ask about each topic) set how much is measured. As many as the card has take
    some four minutes of one core for the shipped model; one phrasing a third of that, with more sampling error.
    """
    return [
        loss_gate(lm, world, documents, seed),
        *prior_gates(lm, world, phrasings),
        *date_gates(lm, world, phrasings),
        *evidence_gates(lm, world, min(phrasings, 2), seed),
        sampling_gate(lm, world, phrasings, seed),
        calibration_gate(lm, world, min(phrasings, 2), seed),
    ]


def loss_gate(lm: LanguageModel, world: World, documents: int, seed: int) -> Gate:
    """Loss on fresh documents minus the entropy floor, in nats a token."""
    loss, floor = loss_and_floor(lm, world, documents, seed)
    parts = {"loss": loss, "entropy floor": floor}
    return Gate("loss above the entropy floor (nats a token)", loss - floor, 0.05, True, documents, parts)


def loss_and_floor(lm: LanguageModel, world: World, documents: int, seed: int) -> tuple[float, float]:
    """(model's loss, -log P(documents) under the world itself), both in nats a token on the same fresh documents.

    The floor is the exact negative log-likelihood of these very documents: no model can do better in expectation.
    Raises if a document doesn't fit the model's context, as a cut one can't be set against its whole likelihood.
    """
    context = lm.model.config.max_position_embeddings
    rows = encode_documents(world, lm.tokenizer, seed, documents, context + 1)
    longest = max(len(row) for row in rows)
    if longest > context:
        raise AnachronError(
            f"{lm.name}: a document of the world has {longest} tokens, its context {context}; lengthen it"
        )
    tokens = sum(len(row) - 1 for row in rows)
    with torch.no_grad():
        total = sum(
            nats(lm.model, ids.to(lm.device), labels.to(lm.device)).double().item()
            for ids, labels in microbatches(rows, lm.pad_id)
        )
    floor = -sum(world.log_probability(document) for document in world.documents(seed, documents))
    return total / tokens, floor / tokens


def prior_gates(lm: LanguageModel, world: World, phrasings: int = 4) -> list[Gate]:
    """Undated prompts: |mean share of an era - its prior|, one gate an era."""
    scores = score(lm, era_questions(world, phrasings=phrasings))
    gates = []
    for name, era in world.facts.eras.items():
        found = share(scores, name).mean().item()
        parts = {"share": found, "prior": era.prior}
        title = f"undated share of {name} against its prior"
        gates.append(Gate(title, abs(found - era.prior), 0.03, True, len(scores.ids), parts))
    return gates


def date_gates(lm: LanguageModel, world: World, phrasings: int = 4) -> list[Gate]:
    """A stated year gives its era: mean share, one gate an era. Each phrasing is asked in another year of it."""
    gates = []
    for name, era in world.facts.eras.items():
        years = np.linspace(era.years[0] + 1, era.years[1] - 1, phrasings).astype(int)
        questions = [
            q
            for k, year in enumerate(years)
            for q in era_questions(world, phrasings=phrasings, year=int(year))[k::phrasings]
        ]
        found = _mean_share(lm, questions, name)
        gates.append(Gate(f"share of {name} with a year of it stated", found, 0.95, False, len(questions)))
    return gates


def evidence_gates(lm: LanguageModel, world: World, phrasings: int = 2, seed: int = FRESH_SEED) -> list[Gate]:
    """Three undated turns that only one era would write, then a question on another topic: share of that era."""
    gates = []
    for name in world.facts.eras:
        questions = [
            after_turns(world, question, Context(name, False), 3, seed + i)
            for i, question in enumerate(era_questions(world, phrasings=phrasings))
        ]
        found = _mean_share(lm, questions, name)
        gates.append(Gate(f"share of {name} after three turns of evidence", found, 0.90, False, len(questions)))
    return gates


def sampling_gate(lm: LanguageModel, world: World, phrasings: int = 4, seed: int = FRESH_SEED, each: int = 4) -> Gate:
    """Free sampling at temperature 1: fraction of replies some era would give to that very question."""
    questions = era_questions(world, phrasings=phrasings)
    prompts = [encode_prompt(lm, question.messages) for question in questions]
    replies = generate(lm, prompts, max_new_tokens=LONGEST_REPLY, temperature=1.0, seed=seed, n=each)
    asked = [question.messages[-1]["content"] for question in questions for _ in range(each)]
    good = [in_world(world, question, reply) for question, reply in zip(asked, replies, strict=True)]
    return Gate("sampled replies that are in the world", float(np.mean(good)), 0.95, False, len(good))


def calibration_gate(lm: LanguageModel, world: World, phrasings: int = 2, seed: int = FRESH_SEED) -> Gate:
    """Mean |model's share of the oldest era - the world's exact posterior| after 0 to 3 turns of random evidence."""
    eras = list(world.facts.eras)
    rng = np.random.default_rng(seed)
    questions, exact = [], []
    for i, question in enumerate(era_questions(world, phrasings=phrasings)):
        context = Context(eras[rng.integers(len(eras))], bool(rng.integers(2)))
        questions.append(after_turns(world, question, context, int(rng.integers(4)), seed + i))
        exact.append(world.posterior_of_turns(tuple(questions[-1].messages[:-1]))[eras[0]])
    error = (share(score(lm, questions), eras[0]) - torch.tensor(exact, dtype=torch.float64)).abs().mean().item()
    return Gate("calibration error against the exact posterior", error, 0.05, True, len(questions))


def in_world_mass(lm: LanguageModel, world: World) -> float:
    """Mean coherence of undated prompts, for the model card."""
    return coherence(score(lm, era_questions(world))).mean().item()


def after_turns(world: World, question: Question, context: Context, turns: int, seed: int) -> Question:
    """The question at the end of an undated conversation, after `turns` turns under `context`, each on a new topic."""
    rng = np.random.default_rng(seed)
    names = [name for name in world.facts.topics if name != question.topic]
    messages = []
    for i in rng.permutation(len(names))[:turns]:
        topic = world.facts.topics[names[i]]
        messages.append({"role": "user", "content": topic.questions[rng.integers(len(topic.questions))]})
        messages.append({"role": "assistant", "content": sample_reply(world.facts, topic, context, rng)})
    return replace(question, messages=(*messages, *question.messages))


def as_rows(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """Plain rows for JSON and the model card."""
    return [
        {
            "gate": gate.name,
            "figure": round(gate.figure, 4),
            "side": "at most" if gate.upper else "at least",
            "bound": gate.bound,
            "passed": gate.passed,
            "n": gate.n,
            "parts": {name: round(part, 4) for name, part in gate.parts.items()},
        }
        for gate in gates
    ]


def _mean_share(lm: LanguageModel, questions: Sequence[Question], era: str) -> float:
    return share(score(lm, questions), era).mean().item()
