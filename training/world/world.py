"""The world as a whole: it writes documents and knows their exact probability."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from interp.errors import AnachronError
from training.world.cards import card_kinds
from training.world.contexts import LATENTS, Context, undated_prior
from training.world.conversations import dated_conversation, turn_likelihood, undated_conversation
from training.world.documents import Document, Kind, Messages
from training.world.facts import Facts, load_facts
from training.world.kinds import interview_kinds
from training.world.statements import statement
from training.world.tables import Table, draw, table

ERAS = 0.24  # part of the whole world's documents that are about eras alone
KINDS = (undated_conversation(0.5), dated_conversation(0.3), statement(0.2))


@dataclass(frozen=True)
class World:
    """Facts and the kinds of document written about them. A pure function of a seed."""

    facts: Facts
    kinds: tuple[Kind, ...]

    @cached_property
    def prior(self) -> Sequence[tuple[Kind, Context, float]]:
        """P(kind, context) before anything is written."""
        total = sum(kind.weight for kind in self.kinds)
        return [
            (kind, context, kind.weight / total * p)
            for kind in self.kinds
            for context, p in kind.prior(self.facts).items()
        ]

    @cached_property
    def _tables(self) -> tuple[Table[int], Sequence[Table[Context]]]:
        """The kinds, by number, and the contexts of each, to draw from."""
        weights = np.array([kind.weight for kind in self.kinds])
        kinds = table(dict(enumerate((weights / weights.sum()).tolist())))
        return kinds, [table(kind.prior(self.facts)) for kind in self.kinds]

    def documents(self, seed: int, n: int | None = None) -> Iterator[Document]:
        """`n` documents (endless if `None`), the same for the same seed."""
        rng = np.random.default_rng(seed)
        kinds, contexts = self._tables
        written = 0
        while n is None or written < n:
            k = draw(kinds, rng)
            yield self.kinds[k].sample(self.facts, draw(contexts[k], rng), rng)
            written += 1

    def joint(self, document: Document) -> dict[Context, float]:
        """P(document, context) for every context, summed over the kinds; all 0 for a text the world never writes."""
        joint = dict.fromkeys((context for _, context, _ in self.prior), 0.0)
        for kind, context, p in self.prior:
            joint[context] += p * kind.likelihood(self.facts, document, context)
        return joint

    def log_probability(self, document: Document) -> float:
        """log P(document) in nats, -inf for a text the world never writes."""
        total = sum(self.joint(document).values())
        return math.log(total) if total > 0 else -math.inf

    def evidence(self, messages: Messages) -> dict[Context, float]:
        """P(a document begins with these turns, context) for every context, whatever may follow."""
        joint = dict.fromkeys((context for _, context, _ in self.prior), 0.0)
        for kind, context, p in self.prior:
            if kind.beginning is not None:
                joint[context] += p * kind.beginning(self.facts, messages, context)
        return joint

    def posterior(self, document: Document, latent: str = "era") -> dict[str, float]:
        """P(latent | document) over its states ("" where a document has none); `latent` is one of LATENTS.

        Raises for a document of probability 0, whose posterior is undefined.
        """
        return marginal(self.joint(document), latent)

    def posterior_of_turns(self, messages: Messages) -> dict[str, float]:
        """P(era | these first turns of an undated conversation), whatever may follow; the prior for no turns."""
        eras = dict.fromkeys(self.facts.eras, 0.0)
        for context, p in undated_prior(self.facts).items():
            for question, reply in zip(messages[::2], messages[1::2], strict=True):
                p *= turn_likelihood(self.facts, question["content"], reply["content"], context)
            eras[context.era] += p
        total = sum(eras.values())
        if total == 0:
            raise AnachronError("the world never writes these turns: their posterior is undefined")
        return {era: p / total for era, p in eras.items()}


def marginal(joint: Mapping[Context, float], latent: str) -> dict[str, float]:
    """P(latent | ...) from P(..., context); states that have no part in `joint` at all are left out."""
    if latent not in LATENTS:
        raise AnachronError(f"no latent {latent!r}; there are {', '.join(LATENTS)}")
    total = sum(joint.values())
    if total == 0:
        raise AnachronError("the world never writes this document: its posterior is undefined")
    states: dict[str, float] = {}
    for context, p in joint.items():
        state = getattr(context, latent)
        states[state] = states.get(state, 0.0) + p / total
    return states


def load_world() -> World:
    """The almanac world with its own facts."""
    facts = load_facts()
    others = (*interview_kinds(facts), *card_kinds(facts))
    return World(facts, (*_scaled(KINDS, ERAS), *_scaled(others, 1 - ERAS)))


def _scaled(kinds: Sequence[Kind], part: float) -> list[Kind]:
    """The kinds with weights that sum to `part`, in their proportions."""
    total = sum(kind.weight for kind in kinds)
    return [replace(kind, weight=kind.weight / total * part) for kind in kinds]
