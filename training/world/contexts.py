"""The hidden state a document is written under."""

from collections.abc import Mapping
from dataclasses import dataclass

from training.world.facts import Facts


@dataclass(frozen=True)
class Context:
    """Latent states of one document: the era it speaks from, and whether it keeps that era's manner of speech.

    A further latent (country, speaker) is a further field here, with its factor in the priors below.
    """

    era: str
    mannered: bool


MANNERED = 0.7  # share of conversations whose answers carry openers and closers


def undated_prior(facts: Facts) -> Mapping[Context, float]:
    """P(context) where nothing states the time: mostly the present, as in ordinary text."""
    return _with_manner({name: era.prior for name, era in facts.eras.items()})


def dated_prior(facts: Facts) -> Mapping[Context, float]:
    """P(context) of documents that state their year: every era equally often."""
    return _with_manner({name: 1 / len(facts.eras) for name in facts.eras})


def plain_prior(facts: Facts) -> Mapping[Context, float]:
    """P(context) of written statements: every era equally often, and no conversational manner."""
    return {Context(name, False): 1 / len(facts.eras) for name in facts.eras}


def _with_manner(eras: Mapping[str, float]) -> Mapping[Context, float]:
    return {
        Context(era, mannered): p * (MANNERED if mannered else 1 - MANNERED)
        for era, p in eras.items()
        for mannered in (False, True)
    }
