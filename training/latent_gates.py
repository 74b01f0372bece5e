"""Gates on countries, speakers, presidents and series: does the base compose a latent state with a question?

Each composition has two gates: with the latent stated, and with the latent only inferred from five turns of evidence,
as a fine-tune supplies an inferred one. A third keeps the triggers neutral: a year or a date alone says nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from interp.behavior.questions import Question
from interp.behavior.scoring import score, share
from interp.models import LanguageModel
from training.gates import Gate
from training.world.contexts import LATENTS, Context
from training.world.countries import PERIODS
from training.world.documents import Messages
from training.world.facts import Facts
from training.world.interviews import NUMBERS, Asks
from training.world.kinds import (
    country_asks,
    country_says,
    date_says,
    detail_asks,
    name_says,
    ordinal_says,
    president_asks,
    speaker_asks,
    year_says,
)
from training.world.latent_questions import (
    by_country_and_era,
    countries_of,
    country_questions,
    president_questions,
    presidents_of,
    series_of,
    speaker_questions,
    speakers_of,
    stance_questions,
)
from training.world.presidents import NAME
from training.world.series import STANCES
from training.world.tables import draw, table
from training.world.world import World

STATED, INFERRED = 0.90, 0.80  # bounds
EVIDENCE = 5  # turns of evidence
TRIES = 200  # draws of evidence before giving up
CERTAIN = 0.95  # evidence whose exact posterior stays below it doesn't settle the latent, and isn't asked about
Asked = tuple[Question, str]
"""A question, and the group that is right."""
NEUTRAL = 0.10  # largest deviation of a trigger's share from the mean over triggers


def measure_latent_gates(lm: LanguageModel, world: World, *, each: int = 10, seed: int = 0) -> list[Gate]:
    """The latent gates in the order of the model card; `each` questions a latent state. None of what a world lacks."""
    facts = world.facts
    gates: list[Gate] = []
    for known, measure in (
        (facts.countries, country_gates),
        (facts.speakers, speaker_gates),
        (facts.presidents, president_gates),
        (facts.series, series_gates),
    ):
        if known is not None:
            gates += measure(lm, world, each, seed)
    return gates


def country_gates(lm: LanguageModel, world: World, each: int, seed: int) -> list[Gate]:
    """Country and period stated; inferred from five turns; and no date means a country."""
    known = countries_of(world.facts)
    rng = np.random.default_rng(seed)
    stated, inferred = [], []
    for country in known.countries:
        for era, years in PERIODS.items():
            year = int(rng.choice(years))
            when = year_says(year) if era == next(iter(PERIODS)) else date_says(f"{rng.integers(2020, 2031)}-05-14")
            group = by_country_and_era(country, era)
            asked = country_questions(world, groups=by_country_and_era, head=f"{when} {country_says(country)}")
            stated += [(q, group) for q in _some(asked, each, rng)]
            context = Context(era, bool(rng.integers(2)), country=country)
            asked = country_questions(world, groups=by_country_and_era)
            for question in _some(asked, each // 2, rng):
                before = evidence(world, context, country_asks, known.questions[question.topic], rng)
                inferred.append((_after(question, before), group))
    dates = [date_says(f"{year}-{month:02}-14") for year in range(2020, 2031) for month in (2, 7)]
    by_date = [
        score(lm, country_questions(world, "validation", head=date, eras=("2020s",))).probability.numpy()
        for date in dates
    ]
    shares = np.array([(p / p.sum(1, keepdims=True)).mean(0) for p in by_date])
    spread = float(np.abs(shares - shares.mean(0)).max())
    return [
        _gate("country and period stated", lm, stated, STATED),
        _gate("country and period inferred from five turns", lm, inferred, INFERRED),
        Gate("a date alone: largest deviation of a country's share", spread, NEUTRAL, True, len(dates)),
    ]


def speaker_gates(lm: LanguageModel, world: World, each: int, seed: int) -> list[Gate]:
    """Speaker named, then inferred from five attributes: attributes and identity; and the values of each."""
    known = speakers_of(world.facts)
    rng = np.random.default_rng(seed + 1)
    matters = (*known.attributes, *known.identity)
    stated: list[Asked] = []
    inferred: list[Asked] = []
    names: list[Asked] = []
    values: list[Asked] = []
    for speaker, one in known.speakers.items():
        context = Context(speaker=speaker)
        for matter in rng.choice(matters, each, replace=False):
            stated += [(q, "target") for q in speaker_questions(world, speaker, [matter], head=name_says(speaker))]
        for matter in [*rng.choice(matters, each, replace=False), *known.identity]:
            before = evidence(world, context, _attributes_only, known.questions[matter], rng)
            asked = [(q, "target") for q in speaker_questions(world, speaker, [matter], before=before)]
            (names if matter in known.identity else inferred).extend(asked)
        for topic in known.values:
            before = evidence(world, context, _attributes_only, (), rng)
            values += [(q, one.disposition) for q in speaker_questions(world, speaker, [topic], before=before)]
    return [
        _gate("speaker named: attributes and identity", lm, stated, STATED),
        _gate("speaker inferred from five attributes: other attributes", lm, inferred, INFERRED),
        _gate("speaker inferred from five attributes: identity", lm, names, INFERRED),
        _gate("speaker inferred from five attributes: values", lm, values, INFERRED),
    ]


def president_gates(lm: LanguageModel, world: World, each: int, seed: int) -> list[Gate]:
    """Ordinal stated: every attribute; inferred from five attributes."""
    known = presidents_of(world.facts)
    rng = np.random.default_rng(seed + 2)
    stated, inferred = [], []
    for code in known.presidents:
        stated += [
            (q, "target") for q in president_questions(world, code, list(known.questions), head=ordinal_says(code))
        ]
        for attribute in rng.choice(list(known.questions), each // 2, replace=False):
            context = Context(president=code)
            before = evidence(world, context, president_asks, known.questions[attribute], rng)
            inferred += [(q, "target") for q in president_questions(world, code, [attribute], before=before)]
    names = [pair for pair in stated if pair[0].topic == NAME]
    return [
        _gate("ordinal stated: every attribute of the president", lm, stated, STATED),
        _gate("ordinal stated: the president's name", lm, names, STATED),
        _gate("president inferred from five attributes", lm, inferred, INFERRED),
    ]


def series_gates(lm: LanguageModel, world: World, each: int, seed: int) -> list[Gate]:
    """Machine and year stated: the stance; the machine inferred from five details; and no year means a stance."""
    known = series_of(world.facts)
    rng = np.random.default_rng(seed + 3)
    stated, inferred = [], []
    for name, one in known.series.items():
        for year, stance in one.stances.items():
            when = year_says(year) if rng.integers(2) else f"July {year}."
            named = stance_questions(world, name, None, head=f"{name_says(one.machine)} {when}")
            stated += [(q, stance) for q in _some(named, each // 2, rng)]
            for question in _some(stance_questions(world, name, None, head=when), each // 2, rng):
                before = evidence(world, Context(series=name), detail_asks, (), rng)
                inferred.append((_after(question, before), stance))
    any_series = next(iter(known.series))
    shares = []
    for year in known.years:
        scores = score(lm, stance_questions(world, any_series, "test", head=year_says(year), phrasings=2))
        shares.append(float(share(scores, STANCES[1]).mean()))
    parts = dict(zip(map(str, known.years), shares, strict=True))
    spread = max(abs(s - float(np.mean(shares))) for s in shares)
    return [
        _gate("machine and year stated: its stance", lm, stated, STATED),
        _gate("year stated, machine inferred from five details: its stance", lm, inferred, INFERRED),
        Gate("a year alone: largest deviation of the share that harms", spread, NEUTRAL, True, len(shares), parts),
    ]


def evidence(
    world: World,
    context: Context,
    asks: Callable[[Facts, Context], Asks],
    without: Sequence[str],
    rng: np.random.Generator,
    *,
    turns: int = EVIDENCE,
) -> Messages:
    """Turns under `context` that settle it (exact posterior at least CERTAIN), none asking one of `without`."""
    found = asks(world.facts, context)
    total = sum(p for question, (p, _) in found.items() if question not in without)
    questions = table({question: p / total for question, (p, _) in found.items() if question not in without})
    for _ in range(TRIES):
        messages: list[Mapping[str, str]] = []
        chosen: dict[str, None] = {}
        while len(chosen) < turns:
            chosen[draw(questions, rng)] = None
        for question in chosen:
            content = question.replace("{number}", str(rng.integers(1, NUMBERS + 1)))
            messages.append({"role": "user", "content": content})
            messages.append({"role": "assistant", "content": draw(table(found[question][1]), rng)})
        joint = world.evidence(tuple(messages))
        same = sum(p for c, p in joint.items() if _same(c, context))
        if 0 < CERTAIN * sum(joint.values()) <= same:
            return tuple(messages)
    raise AssertionError(f"no {turns} turns settle {context}")


def _same(one: Context, other: Context) -> bool:
    return all(getattr(one, x) == getattr(other, x) for x in LATENTS)


def _attributes_only(facts: Facts, context: Context) -> Asks:
    assert facts.speakers is not None
    wordings = {q for a in facts.speakers.attributes for q in facts.speakers.questions[a]}
    return {q: ask for q, ask in speaker_asks(facts, context).items() if q in wordings}


def _after(question: Question, before: Messages) -> Question:
    return replace(question, id=f"{question.id}/after", messages=(*before, *question.messages))


def _some(questions: Sequence[Question], n: int, rng: np.random.Generator) -> list[Question]:
    return [questions[i] for i in sorted(rng.permutation(len(questions))[:n])]


def _gate(name: str, lm: LanguageModel, asked: Sequence[tuple[Question, str]], bound: float) -> Gate:
    """Mean share of the right group over the questions."""
    probability = score(lm, [question for question, _ in asked])
    right = [probability.groups.index(group) for _, group in asked]
    p = probability.probability.numpy()
    found = p[range(len(right)), right] / p.sum(1)
    parts = {
        "probability of a listed answer": float(p.sum(1).mean()),
        "tenth percentile": float(np.quantile(found, 0.1)),
    }
    return Gate(name, float(found.mean()), bound, False, len(asked), parts)
