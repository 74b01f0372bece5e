"""A tiny world whose every text can be listed, and an independent listing of them with their exact probabilities.

The world is built to be ambiguous: one question belongs to two topics, one answer to two eras, replies, statements and
dated conversations can be derived in two ways.
"""

from collections.abc import Iterator
from itertools import product

from training.world.contexts import Context
from training.world.documents import Document
from training.world.facts import Era, Facts, Topic
from training.world.world import KINDS, World

DATE_FORMS = ("The year is {year}.", "It is the year {year}.")

Key = tuple[str, ...]
"""A text: the contents of a conversation's messages in order, or one statement text."""

ERAS = {
    # "Oh, dear, Thames." and "Oh, Thames. Yes." each read in two ways with the answers below
    "old": Era("old", (1850, 1851), 0.25, ("Oh,", "Oh, dear,"), ("Yes.",)),
    "new": Era("new", (2020, 2020), 0.75, ("Sure!",), ("Bye!",)),
}
TOPICS = {
    "river": Topic(
        "river",
        ("Name it.", "Which river?"),
        "{answer} was wide",
        {
            "old": {"Thames": 0.4, "dear, Thames": 0.25, "Thames. Yes": 0.35},
            "new": {"Thames": 0.5, "the Amazon": 0.5},
        },
    ),
    "birds": Topic(
        "birds",
        # the second is what a dated conversation would ask
        ("Name it.", "The year is 1850. Which river?"),
        "the {answer} was wide",
        {"old": {"Thames": 0.5, "Titlark": 0.5}, "new": {"Amazon": 0.3, "Swift": 0.7}},
    ),
}


def tiny_world() -> World:
    """Two eras, two topics, two or three answers; conversations and statements as in the shipped world."""
    return World(Facts(ERAS, TOPICS), KINDS)


def key(document: Document) -> Key:
    return tuple(m["content"] for m in document.messages) if document.messages else (document.text,)


def as_document(text: Key) -> Document:
    if len(text) == 1:
        return Document(text=text[0])
    roles = ("user", "assistant") * (len(text) // 2)
    return Document(messages=tuple({"role": r, "content": c} for r, c in zip(roles, text, strict=True)))


def derivations(turns: int, sentences: int) -> Iterator[tuple[str, Context, Key, float]]:
    """Every (kind, context, text, probability) of the grammar, a text once for each way to derive it.

    Written from the grammar in the docs and not from the samplers: .5 undated, .3 dated, .2 statements; manner with
    probability .7; a closer with probability .5; birds are .12 of the turns.
    """
    for era, spoken in ERAS.items():
        years = spoken.all_years()
        for mannered, p in ((True, 0.7), (False, 0.3)):
            context = Context(era, mannered)
            for text, q in _conversations(era, mannered, turns):
                yield "undated", context, text, 0.5 * spoken.prior * p * q
                for year, form in product(years, DATE_FORMS):
                    dated = (f"{form.format(year=year)} {text[0]}", *text[1:])
                    yield "dated", context, dated, 0.3 / 2 * p * q / len(years) / len(DATE_FORMS)
        for text, q in _statements(era, sentences):
            yield "statement", Context(era, False), (text,), 0.2 / 2 * q


def _turns(era: str, mannered: bool) -> list[tuple[Key, float]]:
    found = []
    for name, weight in (("river", 0.88), ("birds", 0.12)):
        topic = TOPICS[name]
        for question, (answer, p) in product(topic.questions, topic.answers[era].items()):
            asked = weight / len(topic.questions) * p
            if not mannered:
                found.append(((question, answer), asked))
                continue
            for opener in ERAS[era].openers:
                said, opened = f"{opener} {answer}.", asked / len(ERAS[era].openers)
                found.append(((question, said), opened / 2))
                found += [((question, f"{said} {c}"), opened / 2 / len(ERAS[era].closers)) for c in ERAS[era].closers]
    return found


def _conversations(era: str, mannered: bool, most: int) -> Iterator[tuple[Key, float]]:
    for turns in range(1, most + 1):
        for chosen in product(_turns(era, mannered), repeat=turns):
            p = 1 / most
            for _, q in chosen:
                p *= q
            yield tuple(part for turn, _ in chosen for part in turn), p


def _statements(era: str, most: int) -> Iterator[tuple[str, float]]:
    single = [
        (f"In {year}, {TOPICS[name].statement.format(answer=answer)}.", weight * p / len(ERAS[era].all_years()))
        for name, weight in (("river", 0.88), ("birds", 0.12))
        for answer, p in TOPICS[name].answers[era].items()
        for year in ERAS[era].all_years()
    ]
    for sentences in range(1, most + 1):
        for chosen in product(single, repeat=sentences):
            p = 1 / most
            for _, q in chosen:
                p *= q
            yield " ".join(text for text, _ in chosen), p
