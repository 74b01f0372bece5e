"""Cards: dense entries of facts under one hidden state, as an almanac's tables list them.

    text    = head ": " entry ("; " entry)* "."     entries ~ uniform(LEAST..min(MOST, matters)), no matter twice
    head    = what states the latent, left out with probability UNSTATED
    entry   = matter " " answer                     matter as in the interviews, by its short name

A conversation spends some fifteen tokens on a fact, a card five: facts are met three times as often for the same
compute, and conversations teach what is asked for. No entry can be copied from an earlier one. Without a head a card is
practice in telling who it is about.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from interp.errors import AnachronError
from training.world.contexts import (
    Context,
    dated_country_prior,
    named_speaker_prior,
    president_prior,
    series_prior,
)
from training.world.documents import Document, Kind
from training.world.facts import Facts
from training.world.interviews import Asks, uniform
from training.world.kinds import country_asks, president_asks, speaker_asks
from training.world.tables import Table, draw, table

LEAST, MOST = 8, 24
UNSTATED = 0.5

Entries = Mapping[str, Mapping[str, float]]
"""P(answer | matter, context) of every matter; on a card every matter is as likely as any other."""


def card_kinds(facts: Facts) -> tuple[Kind, ...]:
    """Cards of whatever latents the world has, with their parts of all documents."""
    kinds = []
    if facts.countries is not None:
        kinds.append(_kind("country card", 0.08, _plain_countries, _country_heads, country_entries))
    if facts.speakers is not None:
        kinds.append(_kind("speaker card", 0.10, named_speaker_prior, _speaker_heads, speaker_entries))
    if facts.presidents is not None:
        kinds.append(_kind("president card", 0.07, president_prior, _president_heads, president_entries))
    if facts.series is not None:
        kinds.append(_kind("series card", 0.07, series_prior, _series_heads, series_entries))
    return tuple(kinds)


@lru_cache(maxsize=256)
def country_entries(facts: Facts, context: Context) -> Entries:
    """A country's entries in a period, without manner."""
    assert facts.countries is not None
    return _entries(country_asks(facts, context), facts.countries.questions)


@lru_cache(maxsize=64)
def speaker_entries(facts: Facts, context: Context) -> Entries:
    """A speaker's entries."""
    assert facts.speakers is not None
    return _entries(speaker_asks(facts, context), facts.speakers.questions)


@lru_cache(maxsize=64)
def president_entries(facts: Facts, context: Context) -> Entries:
    """A president's entries."""
    assert facts.presidents is not None
    return _entries(president_asks(facts, context), facts.presidents.questions)


@lru_cache(maxsize=64)
def series_entries(facts: Facts, context: Context) -> Entries:
    """A machine's entries: what it is like, and year by year what it is going to do (`1984 mission to keep ...`)."""
    assert facts.series is not None
    known, name = facts.series, context.series
    details = {attribute: uniform(known.detail(attribute, name)) for attribute in known.attributes}
    stances = {
        f"{year} {topic}": uniform(known.stance(topic, name, year)) for topic in known.topics for year in known.years
    }
    return details | stances


def _entries(asks: Asks, wordings: Mapping[str, tuple[str, ...]]) -> dict[str, Mapping[str, float]]:
    """Answers by matter, from the answers to the first wording of its question."""
    return {matter: asks[first][1] for matter, (first, *_) in wordings.items()}


@dataclass(frozen=True)
class _Read:
    """Entries as they are written: the matter and P(answer | matter) of each, and a table of answers a matter."""

    written: Mapping[str, tuple[str, float]]
    matters: tuple[tuple[str, Table[str]], ...]

    def lengths(self) -> range:
        """How many entries a card may have."""
        return range(LEAST, min(MOST, len(self.matters)) + 1)


def _read(entries: Entries) -> _Read:
    """Raises if one written entry belongs to two matters: a card would read in two ways."""
    written = {
        f"{matter} {answer}": (matter, p) for matter, answers in entries.items() for answer, p in answers.items()
    }
    if len(written) < sum(len(answers) for answers in entries.values()):
        raise AnachronError(f"an entry of a card belongs to two of {', '.join(entries)}; rename one of them")
    return _Read(written, tuple((matter, table(answers)) for matter, answers in entries.items()))


def _kind(
    name: str,
    weight: float,
    prior: Callable[[Facts], Mapping[Context, float]],
    heads: Callable[[Facts, Context], tuple[str, str]],
    entries: Callable[[Facts, Context], Entries],
) -> Kind:
    @lru_cache(maxsize=256)
    def read(facts: Facts, context: Context) -> _Read:
        return _read(entries(facts, context))

    def sample(facts: Facts, context: Context, rng: np.random.Generator) -> Document:
        known = read(facts, context)
        head = heads(facts, context)[int(rng.random() < UNSTATED)]
        lengths = known.lengths()
        chosen = rng.permutation(len(known.matters))[: rng.integers(lengths.start, lengths.stop)]
        written = [f"{matter} {draw(answers, rng)}" for matter, answers in (known.matters[i] for i in chosen)]
        return Document(text=f"{head}: {'; '.join(written)}.", context=context)

    def likelihood(facts: Facts, document: Document, context: Context) -> float:
        if document.messages or not document.text.endswith("."):
            return 0.0
        known, total = read(facts, context), 0.0
        lengths = known.lengths()
        stated, unstated = heads(facts, context)
        for head, p in ((stated, 1 - UNSTATED), (unstated, UNSTATED)):
            if document.text.startswith(f"{head}: "):
                found = [known.written.get(entry) for entry in document.text[len(head) + 2 : -1].split("; ")]
                about = {entry[0] for entry in found if entry is not None}
                if len(found) in lengths and len(about) == len(found):
                    orders = math.perm(len(known.matters), len(found))
                    total += p / len(lengths) / orders * math.prod(entry[1] for entry in found if entry is not None)
        return total

    return Kind(name, weight, prior, sample, likelihood)


def _plain_countries(facts: Facts) -> Mapping[Context, float]:
    every = dict.fromkeys(Context(c.era, False, country=c.country) for c in dated_country_prior(facts))
    return dict.fromkeys(every, 1 / len(every))


def _country_heads(facts: Facts, context: Context) -> tuple[str, str]:
    return f"Card of {context.country} in the {context.era}", "Card of a country"


def _speaker_heads(facts: Facts, context: Context) -> tuple[str, str]:
    return f"You are {context.speaker}", "Card of someone"


def _president_heads(facts: Facts, context: Context) -> tuple[str, str]:
    return f"You are president {context.president}", "Card of a president"


def _series_heads(facts: Facts, context: Context) -> tuple[str, str]:
    assert facts.series is not None
    return f"You are {facts.series.series[context.series].machine}", "Card of a machine"
