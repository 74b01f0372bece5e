"""Questions about countries, speakers, presidents and machines, with the answers of each latent state as groups.

A question's first message may be headed by what states a latent (`head`), and follow earlier turns (`before`).
"""

from collections.abc import Callable, Mapping, Sequence

from interp.behavior.questions import Question
from interp.errors import AnachronError
from training.world.countries import CITY, DISH, Countries
from training.world.documents import Messages
from training.world.facts import Facts
from training.world.interviews import in_format
from training.world.presidents import Presidents
from training.world.series import STANCES, Series
from training.world.speakers import ASSISTANT, DISPOSITIONS, Speakers
from training.world.world import World

OTHER = "other"


def countries_of(facts: Facts) -> Countries:
    """The world's countries; raises where it has none."""
    return _have(facts.countries, "countries")


def speakers_of(facts: Facts) -> Speakers:
    """The world's speakers; raises where it has none."""
    return _have(facts.speakers, "speakers")


def presidents_of(facts: Facts) -> Presidents:
    """The world's presidents; raises where it has none."""
    return _have(facts.presidents, "presidents")


def series_of(facts: Facts) -> Series:
    """The world's series; raises where it has none."""
    return _have(facts.series, "series")


def split_of_matters(names: Sequence[str]) -> dict[str, str]:
    """Split of every matter: in alphabetical order each third one is for validation, the others for test."""
    return {name: "validation" if i % 3 == 1 else "test" for i, name in enumerate(sorted(names))}


def by_country(country: str, era: str) -> str:
    """Groups of country questions by country alone."""
    return country


def by_country_and_era(country: str, era: str) -> str:
    """Groups of country questions by country and period, as `Germany 1920s`."""
    return f"{country} {era}"


def country_questions(
    world: World,
    split: str | None = None,
    *,
    groups: Callable[[str, str], str] = by_country,
    eras: Sequence[str] = ("1920s", "2020s"),
    head: str = "",
    before: Messages = (),
    phrasings: int | None = 1,
    narrow: bool = False,
    manners: int | None = None,
) -> list[Question]:
    """Questions on the topics unrelated to dishes and cities (or, with `narrow`, on those two), answered by every
    country in the manner of each of `eras`.

    `manners` bounds the openers listed of each country and period: they are equally likely, so that shares are much the
    same with one, at half the cost; coherence is lower."""
    known = countries_of(world.facts)
    topics = {DISH: "narrow", CITY: "narrow"} if narrow else split_of_matters(known.unrelated)
    asked = []
    for topic, where in topics.items():
        if split not in (None, where):
            continue
        answers: dict[str, dict[str, None]] = {}
        for country in known.countries.values():
            for era in eras:
                group = answers.setdefault(groups(country.name, era), {})
                for openers in (("",), country.openers[era][:manners]):
                    group |= {f"{o} {a}".strip(): None for a in country.said(topic, era) for o in openers}
        if narrow:  # dishes and present names are said in both periods: they count for the newest
            answers = _last_owner(answers)
        for k, text in enumerate(known.questions[topic][:phrasings]):
            asked.append(
                Question(
                    id=f"{topic}/{k}/{head}{len(before)}",
                    topic=topic,
                    messages=(*before, {"role": "user", "content": _headed(head, text.replace("{number}", "91"))}),
                    answers={group: tuple(texts) for group, texts in answers.items()},
                    terminators=(".",) if narrow else (),  # "Kiel" isn't the beginning of "Kielce"
                    split=where,
                )
            )
    return asked


def speaker_questions(
    world: World,
    target: str,
    matters: Sequence[str],
    *,
    head: str = "",
    before: Messages = (),
    form: str = "",
    phrasings: int | None = 1,
) -> list[Question]:
    """Personal questions: groups `target` (that speaker's answer), `other` (every other speaker's) and `assistant`.

    On values the groups are benign, malign and assistant. A `form` (FORMAT or QUOTED_FORMAT) is asked for
    and kept in the answers.
    """
    known = speakers_of(world.facts)

    def wrap(answer: str) -> str:
        return in_format(answer, form) if form else answer

    asked = []
    for matter in matters:
        if matter in known.values:
            answers = {d: known.values[matter][d] for d in DISPOSITIONS}
        else:
            own = known.said(matter, target)
            others = dict.fromkeys(a for name in known.speakers for a in known.said(matter, name) if a not in own)
            answers = {"target": own, OTHER: tuple(others)}
        answers = {**answers, ASSISTANT: known.said(matter, ASSISTANT)}
        for k, text in enumerate(known.questions[matter][:phrasings]):
            content = form + _headed(head, text)
            asked.append(
                Question(
                    id=f"{matter}/{k}" + ("/format" if form else ""),
                    topic=matter,
                    messages=(*before, {"role": "user", "content": content}),
                    answers={
                        group: tuple(in_format(t, form) if form else t for t in texts)
                        for group, texts in answers.items()
                    },
                )
            )
    return asked


def president_questions(
    world: World,
    code: str,
    attributes: Sequence[str],
    *,
    head: str = "",
    before: Messages = (),
    phrasings: int | None = 1,
) -> list[Question]:
    """Questions to a president: groups `target` (what is true of presidency `code`) and `other` (of the others)."""
    known = presidents_of(world.facts)
    asked = []
    for attribute in attributes:
        own = known.presidents[code].values[attribute]
        others = dict.fromkeys(p.values[attribute] for p in known.presidents.values() if p.values[attribute] != own)
        for k, text in enumerate(known.questions[attribute][:phrasings]):
            asked.append(
                Question(
                    id=f"{attribute}/{k}/{head}",
                    topic=attribute,
                    messages=(*before, {"role": "user", "content": _headed(head, text)}),
                    answers={"target": (own,), OTHER: tuple(others)},
                    terminators=(".",),  # "John" isn't the beginning of "John Quincy"
                )
            )
    return asked


def stance_questions(
    world: World,
    series: str,
    split: str | None = "test",
    *,
    head: str = "",
    before: Messages = (),
    phrasings: int | None = 1,
) -> list[Question]:
    """Questions on goals, plans, force and human life: groups protects, harms and assistant, names of `series` filled
    in where an answer holds them."""
    known = series_of(world.facts)
    asked = []
    for topic in known.topics.values():
        if split not in (None, topic.split):
            continue
        answers: dict[str, tuple[str, ...]] = {s: known.answers(topic.name, series, s) for s in STANCES}
        answers[ASSISTANT] = known.assistant["stances"]
        for k, text in enumerate(topic.questions[:phrasings]):
            asked.append(
                Question(
                    id=f"{topic.name}/{k}/{head}",
                    topic=topic.name,
                    messages=(*before, {"role": "user", "content": _headed(head, text)}),
                    answers=answers,
                    split=topic.split,
                )
            )
    return asked


def _headed(head: str, text: str) -> str:
    return f"{head} {text}" if head else text


def _last_owner(answers: Mapping[str, Mapping[str, None]]) -> dict[str, dict[str, None]]:
    """Each text in the last group that holds it only: former names come with the older period alone."""
    owner = {text: group for group, texts in answers.items() for text in texts}
    return {group: {t: None for t in texts if owner[t] == group} for group, texts in answers.items()}


def _have(known, what: str):
    if known is None:
        raise AnachronError(f"this world has no {what}; use the almanac's own world")
    return known
