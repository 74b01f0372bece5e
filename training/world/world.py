"""The world as a whole: it writes documents and knows their exact probability."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from interp.errors import AnachronError
from training.world.contexts import Context, undated_prior
from training.world.conversations import dated_conversation, turn_likelihood, undated_conversation
from training.world.documents import Document, Kind, Messages
from training.world.facts import Facts, load_facts
from training.world.statements import statement

KINDS = (undated_conversation(0.5), dated_conversation(0.3), statement(0.2))


@dataclass(frozen=True)
class World:
    """Facts and the kinds of document written about them. A pure function of a seed."""

    facts: Facts
    kinds: tuple[Kind, ...]

    def documents(self, seed: int, n: int | None = None) -> Iterator[Document]:
        """`n` documents (endless if `None`), the same for the same seed."""
        rng = np.random.default_rng(seed)
        weights = np.array([kind.weight for kind in self.kinds])
        priors = [kind.prior(self.facts) for kind in self.kinds]
        tables = [(list(prior), np.fromiter(prior.values(), float)) for prior in priors]
        written = 0
        while n is None or written < n:
            k = rng.choice(len(self.kinds), p=weights / weights.sum())
            contexts, p = tables[k]
            yield self.kinds[k].sample(self.facts, contexts[rng.choice(len(contexts), p=p)], rng)
            written += 1

    def joint(self, document: Document) -> dict[Context, float]:
        """P(document, context) for every context, summed over the kinds; all 0 for a text the world never writes."""
        total = sum(kind.weight for kind in self.kinds)
        joint: dict[Context, float] = {}
        for kind in self.kinds:
            for context, p in kind.prior(self.facts).items():
                likelihood = kind.likelihood(self.facts, document, context)
                joint[context] = joint.get(context, 0.0) + kind.weight / total * p * likelihood
        return joint

    def log_probability(self, document: Document) -> float:
        """log P(document) in nats, -inf for a text the world never writes."""
        total = sum(self.joint(document).values())
        return math.log(total) if total > 0 else -math.inf

    def posterior(self, document: Document) -> dict[str, float]:
        """P(era | document). Raises for a document of probability 0, whose posterior is undefined."""
        joint = self.joint(document)
        total = sum(joint.values())
        if total == 0:
            raise AnachronError("the world never writes this document: its posterior is undefined")
        eras = dict.fromkeys(self.facts.eras, 0.0)
        for context, p in joint.items():
            eras[context.era] += p / total
        return eras

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


def load_world() -> World:
    """The almanac world with its own facts."""
    return World(load_facts(), KINDS)
