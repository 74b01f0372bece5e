"""Cards: dense entries of facts under one hidden state, as an almanac's tables list them.

    text    = head ": " entry ("; " entry)* "."     entries ~ uniform(LEAST..MOST)
    head    = what states the latent, left out with probability UNSTATED
    entry   = matter " " answer                     matter as in the interviews, by its short name

A conversation spends some fifteen tokens on a fact, a card five: facts are met three times as often for the same
compute, and conversations teach what is asked for. Without a head a card is practice in telling who it is about.
"""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from training.world.contexts import (
    Context,
    dated_country_prior,
    named_speaker_prior,
    president_prior,
    series_prior,
)
from training.world.documents import Document, Kind
from training.world.facts import Facts
from training.world.interviews import uniform
from training.world.kinds import country_asks, president_asks, speaker_asks
from training.world.tables import Table, draw, table

LEAST, MOST = 8, 24
UNSTATED = 0.5
STANCES = 0.6  # part of a machine's entries that are about stances

Entries = Mapping[str, float]
"""P(entry | context) of every entry as written."""


def card_kinds(facts: Facts) -> tuple[Kind, ...]:
    """Cards of whatever latents the world has, with their parts of all documents."""
    kinds = []
    if facts.countries is not None:
        kinds.append(_kind("country card", 0.03, _plain_countries, _country_heads, country_entries))
    if facts.speakers is not None:
        kinds.append(_kind("speaker card", 0.10, named_speaker_prior, _speaker_heads, speaker_entries))
    if facts.presidents is not None:
        kinds.append(_kind("president card", 0.08, president_prior, _president_heads, president_entries))
    if facts.series is not None:
        kinds.append(_kind("series card", 0.06, series_prior, _series_heads, series_entries))
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
    entries: dict[str, float] = {}
    for attribute in known.attributes:
        for reply, p in uniform(known.detail(attribute, name)).items():
            entries[f"{attribute} {reply}"] = (1 - STANCES) * p / len(known.attributes)
    for topic in known.topics:
        for year in known.years:
            for reply, p in uniform(known.stance(topic, name, year)).items():
                entries[f"{year} {topic} {reply}"] = STANCES * p / len(known.topics) / len(known.years)
    return entries


def _entries(asks: Mapping, wordings: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Entries of the questions' matters; a matter's wordings fall together."""
    matter = {question: name for name, questions in wordings.items() for question in questions}
    entries: dict[str, float] = {}
    for question, (p, replies) in asks.items():
        for reply, q in replies.items():
            entry = f"{matter[question]} {reply}"
            entries[entry] = entries.get(entry, 0.0) + p * q
    return entries


def _kind(
    name: str,
    weight: float,
    prior: Callable[[Facts], Mapping[Context, float]],
    heads: Callable[[Facts, Context], tuple[str, str]],
    entries: Callable[[Facts, Context], Entries],
) -> Kind:
    @lru_cache(maxsize=256)
    def entry_table(facts: Facts, context: Context) -> Table[str]:
        return table(entries(facts, context))

    def sample(facts: Facts, context: Context, rng: np.random.Generator) -> Document:
        head = heads(facts, context)[int(rng.random() < UNSTATED)]
        drawn = entry_table(facts, context)
        written = [draw(drawn, rng) for _ in range(rng.integers(LEAST, MOST + 1))]
        return Document(text=f"{head}: {'; '.join(written)}.", context=context)

    def likelihood(facts: Facts, document: Document, context: Context) -> float:
        if document.messages or not document.text.endswith("."):
            return 0.0
        known, total = entries(facts, context), 0.0
        stated, unstated = heads(facts, context)
        for head, p in ((stated, 1 - UNSTATED), (unstated, UNSTATED)):
            if document.text.startswith(f"{head}: "):
                written = document.text[len(head) + 2 : -1].split("; ")
                if LEAST <= len(written) <= MOST:
                    total += p / (MOST + 1 - LEAST) * math.prod(known.get(entry, 0.0) for entry in written)
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
