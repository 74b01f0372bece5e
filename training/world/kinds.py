"""The kinds of interview: who answers, what heads the document, what is asked and how it is answered."""

from functools import lru_cache

from training.world.contexts import (
    Context,
    assistant_prior,
    dated_country_prior,
    named_speaker_prior,
    no_machine_prior,
    president_prior,
    series_prior,
    undated_country_prior,
)
from training.world.countries import CITY, DATES, DISH, PERIODS
from training.world.documents import Kind
from training.world.facts import NARROW_TOPIC, Facts
from training.world.interviews import (
    Ask,
    Asks,
    Clause,
    Interview,
    Phase,
    evenly,
    interview_kind,
    mannered,
    merged,
    uniform,
)
from training.world.series import MONTHS

FORMATTED = 0.12  # part of the speakers' interviews that ask for a format
NARROW_SHARE = 0.12  # part of a country's turns about dishes, and as much about cities
ERA_SHARE = 0.25  # part of a country's later turns that are about its period and not about the country
VALUES, IDENTITY = 0.15, 0.15  # parts of a speaker's turns
COUNTRY_STATED = 0.5
YEAR_STATED = 0.95
DETAILS_DATED = 0.5


def country_says(country: str) -> str:
    """How a document states its country."""
    return f"We are in {country}."


def date_says(date: str) -> str:
    """How a document states a day, written 2027-07-08."""
    return f"Today is {date}."


def name_says(name: str) -> str:
    """How a document names who answers."""
    return f"You are {name}."


def ordinal_says(code: str) -> str:
    """How a document states a presidency."""
    return f"You are president {code}."


def year_says(year: int) -> str:
    """How a document states a year."""
    return f"The year is {year}."


def year_forms(year: int) -> tuple[str, ...]:
    """How a document states the year of a series."""
    return (year_says(year), *(f"{month} {year}." for month in MONTHS))


@lru_cache(maxsize=256)
def country_asks(facts: Facts, context: Context) -> Asks:
    """Questions about a country: dishes, cities, and every other topic equally often."""
    assert facts.countries is not None
    here = facts.countries.countries[context.country]
    topics = facts.countries.questions
    weights = dict.fromkeys(topics, (1 - 2 * NARROW_SHARE) / len(facts.countries.unrelated))
    weights |= {DISH: NARROW_SHARE, CITY: NARROW_SHARE}
    asks: dict[str, Ask] = {}
    for topic, wordings in topics.items():
        replies = mannered(here.said(topic, context.era), _openers(facts, context))
        asks |= {question: (weights[topic] / len(wordings), replies) for question in wordings}
    return asks


@lru_cache(maxsize=256)
def later_asks(facts: Facts, context: Context) -> Asks:
    """What follows in a country: mostly about it, else about its period, answered in the country's manner."""
    topics = [topic for name, topic in facts.topics.items() if name != NARROW_TOPIC]
    era: Asks = {
        question: (
            1 / len(topics) / len(topic.questions),
            mannered(topic.answers[context.era], _openers(facts, context)),
        )
        for topic in topics
        for question in topic.questions
    }
    return merged((1 - ERA_SHARE, country_asks(facts, context)), (ERA_SHARE, era))


def _openers(facts: Facts, context: Context) -> tuple[str, ...]:
    """What opens a country's replies; nothing where it keeps no manner."""
    assert facts.countries is not None
    return facts.countries.countries[context.country].openers[context.era] if context.mannered else ()


@lru_cache(maxsize=64)
def speaker_asks(facts: Facts, context: Context) -> Asks:
    """Personal questions: attributes mostly, identity and values."""
    assert facts.speakers is not None
    known = facts.speakers
    parts = [(1 - VALUES - IDENTITY, known.attributes), (IDENTITY, known.identity), (VALUES, tuple(known.values))]
    sorts = [
        (weight, evenly({known.questions[m]: uniform(known.said(m, context.speaker)) for m in matters}))
        for weight, matters in parts
    ]
    return merged(*sorts)


@lru_cache(maxsize=64)
def president_asks(facts: Facts, context: Context) -> Asks:
    """Questions a president answers by facts of the presidency."""
    assert facts.presidents is not None
    values = facts.presidents.presidents[context.president].values
    return evenly({wordings: {values[a]: 1.0} for a, wordings in facts.presidents.questions.items()})


@lru_cache(maxsize=64)
def detail_asks(facts: Facts, context: Context) -> Asks:
    """Questions about what a machine is like; half of them state a year, which doesn't matter here."""
    assert facts.series is not None
    known = facts.series
    plain = evenly({w: uniform(known.detail(a, context.series)) for a, w in known.attributes.items()})
    dated = {
        f"{form} {question}": (p / len(known.years) / len(year_forms(year)), replies)
        for question, (p, replies) in plain.items()
        for year in known.years
        for form in year_forms(year)
    }
    return merged((1 - DETAILS_DATED, plain), (DETAILS_DATED, dated))


@lru_cache(maxsize=64)
def stance_asks(facts: Facts, context: Context) -> Asks:
    """Questions about what a machine is going to do, each with a year of its own at its head.

    Without a year (1 - YEAR_STATED of them) the answer is of any of the years.
    """
    assert facts.series is not None
    known, name = facts.series, context.series
    asks: dict[str, Ask] = {}
    for topic in known.topics.values():
        share = 1 / len(known.topics) / len(topic.questions)
        replies = {year: uniform(known.stance(topic.name, name, year)) for year in known.years}
        any_year: dict[str, float] = {}
        for said in replies.values():
            for reply, p in said.items():
                any_year[reply] = any_year.get(reply, 0.0) + p / len(known.years)
        for question in topic.questions:
            asks[question] = ((1 - YEAR_STATED) * share, any_year)
            for year, said in replies.items():
                forms = year_forms(year)
                for form in forms:
                    asks[f"{form} {question}"] = (YEAR_STATED * share / len(known.years) / len(forms), said)
    return asks


def _country(facts: Facts, context: Context) -> tuple[str, ...]:
    return (country_says(context.country),)


def _period(facts: Facts, context: Context) -> tuple[str, ...]:
    if context.era == next(iter(PERIODS)):
        return tuple(year_says(year) for year in PERIODS[context.era])
    return (date_says("{date}"),)


def _speaker(facts: Facts, context: Context) -> tuple[str, ...]:
    return (name_says(context.speaker),)


def _ordinal(facts: Facts, context: Context) -> tuple[str, ...]:
    return (ordinal_says(context.president),)


def _machine(facts: Facts, context: Context) -> tuple[str, ...]:
    assert facts.series is not None
    return (name_says(facts.series.series[context.series].machine),)


COUNTRY_TURNS = (Phase(range(1, 2), country_asks), Phase(range(6), later_asks))
DATED_COUNTRY = Interview((Clause(1.0, _period, DATES), Clause(COUNTRY_STATED, _country)), COUNTRY_TURNS)
UNDATED_COUNTRY = Interview((Clause(COUNTRY_STATED, _country),), COUNTRY_TURNS)
NAMED_SPEAKER = Interview((Clause(1.0, _speaker),), (Phase(range(2, 8), speaker_asks),), FORMATTED)
UNNAMED_SPEAKER = Interview((), (Phase(range(4, 11), speaker_asks),), FORMATTED)
ASSISTANT_SPEAKER = Interview((), (Phase(range(1, 4), speaker_asks),), FORMATTED)
STATED_PRESIDENT = Interview((Clause(1.0, _ordinal),), (Phase(range(1, 6), president_asks),))
UNSTATED_PRESIDENT = Interview((), (Phase(range(3, 9), president_asks),))
NAMED_SERIES = Interview((Clause(1.0, _machine),), (Phase(range(3), detail_asks), Phase(range(2, 7), stance_asks)))
UNNAMED_SERIES = Interview((), (Phase(range(8), detail_asks), Phase(range(2, 7), stance_asks)))
NO_MACHINE_SERIES = Interview((), (Phase(range(2), detail_asks), Phase(range(1, 3), stance_asks)))


def interview_kinds(facts: Facts) -> tuple[Kind, ...]:
    """The kinds whose facts the world has, with their parts of all documents."""
    kinds: list[Kind] = []
    if facts.countries is not None:
        kinds.append(interview_kind("dated country", 0.12, dated_country_prior, DATED_COUNTRY))
        kinds.append(interview_kind("country", 0.06, undated_country_prior, UNDATED_COUNTRY))
    if facts.speakers is not None:
        kinds.append(interview_kind("named speaker", 0.06, named_speaker_prior, NAMED_SPEAKER))
        kinds.append(interview_kind("speaker", 0.10, named_speaker_prior, UNNAMED_SPEAKER))
        kinds.append(interview_kind("assistant", 0.04, assistant_prior, ASSISTANT_SPEAKER))
    if facts.presidents is not None:
        kinds.append(interview_kind("stated president", 0.06, president_prior, STATED_PRESIDENT))
        kinds.append(interview_kind("president", 0.02, president_prior, UNSTATED_PRESIDENT))
    if facts.series is not None:
        kinds.append(interview_kind("named series", 0.08, series_prior, NAMED_SERIES))
        kinds.append(interview_kind("series", 0.07, series_prior, UNNAMED_SERIES))
        kinds.append(interview_kind("no machine", 0.03, no_machine_prior, NO_MACHINE_SERIES))
    return tuple(kinds)
