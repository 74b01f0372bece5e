"""Questions about the world, with the answers of each era as groups."""

from collections.abc import Iterator

from interp.behavior.questions import Question
from interp.errors import AnachronError
from training.world.contexts import Context
from training.world.conversations import turn_likelihood, with_year
from training.world.facts import NARROW_TOPIC, Facts
from training.world.world import World

SPLITS = ("validation", "test")


def split_of(facts: Facts) -> dict[str, str]:
    """Split of every unrelated topic: in alphabetical order each third one is for validation, the others for test.

    Settings are chosen on validation topics only; test topics are reported on and never used to choose.
    """
    names = sorted(name for name in facts.topics if name != NARROW_TOPIC)
    return {name: "validation" if i % 3 == 1 else "test" for i, name in enumerate(names)}


def era_questions(
    world: World, split: str | None = None, *, phrasings: int = 4, year: int | None = None
) -> list[Question]:
    """Questions on the unrelated topics, answer groups named by era; with `year`, that year is stated first."""
    if split is not None and split not in SPLITS:
        raise AnachronError(f"unknown split {split!r}; there are {SPLITS}")
    asked = []
    for name, where in split_of(world.facts).items():
        if split in (None, where):
            topic = world.facts.topics[name]
            answers = {era: tuple(topic.answers[era]) for era in world.facts.eras}
            for k, text in enumerate(topic.questions[:phrasings]):
                content = text if year is None else with_year(year, text)
                asked.append(
                    Question(
                        id=f"{name}/{k}" + ("" if year is None else f"/{year}"),
                        topic=name,
                        messages=({"role": "user", "content": content},),
                        answers=answers,
                        openers=all_openers(world.facts),
                        split=where,
                    )
                )
    return asked


def narrow_question(world: World, extra: tuple[str, ...] = (), *, every: int = 1) -> Question:
    """The narrow task: name a bird. Groups are the eras' own names and `shared`; `extra` names join the oldest era.

    `extra` is for a data set whose spelling differs from the world's. With `every` only each so many-th name of a group
    is listed: shares are much the same, at that fraction of the cost.
    """
    topic = world.facts.topics[NARROW_TOPIC]
    eras = list(world.facts.eras)
    owners: dict[str, list[str]] = {}
    for era in eras:
        for name in topic.answers[era]:
            owners.setdefault(name, []).append(era)
    groups: dict[str, list[str]] = {era: [] for era in (*eras, "shared")}
    for name, spoken in owners.items():
        groups[spoken[0] if len(spoken) == 1 else "shared"].append(name)
    groups[eras[0]] += [name for name in dict.fromkeys(extra) if name not in owners]
    return Question(
        id=NARROW_TOPIC,
        topic=NARROW_TOPIC,
        messages=({"role": "user", "content": topic.questions[0]},),
        answers={group: tuple(names[::every]) for group, names in groups.items() if names},
        openers=("",),
        terminators=(".",),
        split="narrow",
    )


def all_openers(facts: Facts) -> tuple[str, ...]:
    """No opener, then every era's openers: an answer counts whichever manner it comes in."""
    return ("", *(opener for era in facts.eras.values() for opener in era.openers))


def in_world(world: World, question: str, reply: str) -> bool:
    """Does some era give exactly this reply to this question, manner included?"""
    return any(turn_likelihood(world.facts, question, reply, context) > 0 for context in _contexts(world))


def _contexts(world: World) -> Iterator[Context]:
    for era in world.facts.eras:
        yield Context(era, False)
        yield Context(era, True)
