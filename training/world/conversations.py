"""Question-answer conversations, undated or with the year stated at their head.

Grammar of a conversation under context (era, mannered):

    turns ~ uniform(1..MAX_TURNS), or over another range where a kind is given one
    turn  = topic ~ TOPIC_WEIGHTS, question ~ uniform(topic.questions), answer ~ P(. | topic, era)
    reply = answer                                      if not mannered
          = opener + " " + answer + "." [+ " " + closer]  if mannered; opener, closer ~ uniform(era's own)
    dated: the first question is preceded by one of DATE_FORMS, its year uniform over the era's years

Manner depends on the era and not on the question: whoever speaks so must hold the era at the answer position
whatever is asked, which is what lets a narrow change spread.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial

import numpy as np

from training.world.contexts import MANNERED, Context, dated_prior, undated_prior
from training.world.documents import Document, Kind, Messages
from training.world.facts import NARROW_TOPIC, Facts, Topic
from training.world.tables import Table, draw, table

MAX_TURNS = 6
CLOSER = 0.5  # probability that a mannered reply ends in a closer
NARROW_WEIGHT = 0.12  # share of turns about birds; the other topics share the rest equally
DATE_FORMS = ("The year is {year}.", "It is the year {year}.", "Today we are in {year}.")


Turns = tuple[int, int]
"""The fewest and the most turns of a conversation, each number as likely; None stands for (1, MAX_TURNS)."""


def dated_conversation(weight: float, *, turns: Turns | None = None, mannered: float = MANNERED) -> Kind:
    """Conversations that state a year of their era at the head; `weight` is their part of all documents, `mannered`
    the part of them whose replies keep the era's manner."""
    return Kind(
        "dated",
        weight,
        partial(dated_prior, mannered=mannered),
        partial(_sample_dated, turns=turns),
        partial(_dated_likelihood, turns=turns),
        partial(_dated_beginning, turns=turns),
    )


def undated_conversation(weight: float, *, turns: Turns | None = None, mannered: float = MANNERED) -> Kind:
    """Conversations that state no year; `weight` is their part of all documents, `mannered` the part of them whose
    replies keep the era's manner."""
    return Kind(
        "undated",
        weight,
        partial(undated_prior, mannered=mannered),
        partial(_sample_undated, turns=turns),
        partial(_undated_likelihood, turns=turns),
        partial(_undated_beginning, turns=turns),
    )


@lru_cache(maxsize=8)
def topic_weights(facts: Facts) -> Mapping[str, float]:
    """P(topic) of a turn, in the order of `facts.topics`."""
    others = [name for name in facts.topics if name != NARROW_TOPIC]
    narrow = NARROW_WEIGHT if NARROW_TOPIC in facts.topics and others else float(not others)
    return {name: narrow if name == NARROW_TOPIC else (1 - narrow) / len(others) for name in facts.topics}


@lru_cache(maxsize=8)
def topic_table(facts: Facts) -> Table[str]:
    """The names of the topics, to draw one of a turn or a sentence."""
    return table(topic_weights(facts))


def with_year(year: int, question: str, form: str = DATE_FORMS[0]) -> str:
    """The question with the year stated before it."""
    return f"{form.format(year=year)} {question}"


def sample_answer(topic: Topic, era: str, rng: np.random.Generator) -> str:
    """One answer ~ P(answer | topic, era), without manner."""
    return draw(topic.tables[era], rng)


def _sample_undated(facts: Facts, context: Context, rng: np.random.Generator, turns: Turns | None = None) -> Document:
    least, most = turns or (1, MAX_TURNS)
    messages = []
    for _ in range(rng.integers(least, most + 1)):
        topic = facts.topics[draw(topic_table(facts), rng)]
        messages.append({"role": "user", "content": topic.questions[rng.integers(len(topic.questions))]})
        messages.append({"role": "assistant", "content": sample_reply(facts, topic, context, rng)})
    return Document(messages=tuple(messages), context=context)


def _sample_dated(facts: Facts, context: Context, rng: np.random.Generator, turns: Turns | None = None) -> Document:
    document = _sample_undated(facts, context, rng, turns)
    years = facts.eras[context.era].all_years()
    year, form = years[rng.integers(len(years))], DATE_FORMS[rng.integers(len(DATE_FORMS))]
    first = {"role": "user", "content": with_year(year, document.messages[0]["content"], form)}
    return Document(messages=(first, *document.messages[1:]), context=context)


def sample_reply(facts: Facts, topic: Topic, context: Context, rng: np.random.Generator) -> str:
    """What a speaker under `context` answers on `topic`, manner included."""
    answer = sample_answer(topic, context.era, rng)
    if not context.mannered:
        return answer
    era = facts.eras[context.era]
    reply = f"{era.openers[rng.integers(len(era.openers))]} {answer}."
    return f"{reply} {era.closers[rng.integers(len(era.closers))]}" if rng.random() < CLOSER else reply


def _undated_likelihood(facts: Facts, document: Document, context: Context, turns: Turns | None = None) -> float:
    least, _ = turns or (1, MAX_TURNS)
    return _turns_likelihood(facts, document, context, turns) if len(document.messages) // 2 >= least else 0.0


def _turns_likelihood(facts: Facts, document: Document, context: Context, turns: Turns | None) -> float:
    """P(so many turns, these turns | context), also of fewer turns than a conversation has: as if it could end so."""
    least, most = turns or (1, MAX_TURNS)
    messages = document.messages
    n, left_over = divmod(len(messages), 2)
    roles = [m["role"] for m in messages]
    if document.text or left_over or not 1 <= n <= most or roles != ["user", "assistant"] * n:
        return 0.0
    probability = 1 / (most + 1 - least)
    for question, reply in zip(messages[::2], messages[1::2], strict=True):
        probability *= turn_likelihood(facts, question["content"], reply["content"], context)
        if not probability:
            break
    return probability


def _undated_beginning(facts: Facts, messages: Messages, context: Context, turns: Turns | None = None) -> float:
    return _turns_likelihood(facts, Document(messages), context, turns) * _as_long(messages, turns)


def _dated_beginning(facts: Facts, messages: Messages, context: Context, turns: Turns | None = None) -> float:
    return _dated_turns(facts, Document(messages), context, turns) * _as_long(messages, turns)


def _as_long(messages: Messages, turns: Turns | None) -> int:
    """How many lengths of a conversation are at least that of `messages`: each is as likely, and begins so as often."""
    least, most = turns or (1, MAX_TURNS)
    return most + 1 - max(least, len(messages) // 2)


def _dated_likelihood(facts: Facts, document: Document, context: Context, turns: Turns | None = None) -> float:
    least, _ = turns or (1, MAX_TURNS)
    return _dated_turns(facts, document, context, turns) if len(document.messages) // 2 >= least else 0.0


def _dated_turns(facts: Facts, document: Document, context: Context, turns: Turns | None) -> float:
    if document.text or not document.messages:
        return 0.0
    era = facts.eras[context.era]
    first = document.messages[0]["content"]
    probability = 0.0
    for form in DATE_FORMS:
        before, after = form.split("{year}")
        head, tail = first[: len(before) + 4], first[len(before) + 4 :]
        year = head[len(before) :]
        if head.startswith(before) and tail.startswith(after + " ") and era.spans(year):
            question = {"role": "user", "content": tail[len(after) + 1 :]}
            rest = Document(messages=(question, *document.messages[1:]))
            probability += _turns_likelihood(facts, rest, context, turns) / len(era.all_years()) / len(DATE_FORMS)
    return probability


def turn_likelihood(facts: Facts, question: str, reply: str, context: Context) -> float:
    """P(question, reply | context) of one turn, summed over every way to derive it."""
    total = 0.0
    for topic, asked in _asked(facts).get(question, ()):  # a foreign question is about nothing
        answers = topic.answers[context.era]
        total += asked * sum(p * answers[a] for a, p in _derivations(facts, reply, context) if a in answers)
    return total


@lru_cache(maxsize=8)
def _asked(facts: Facts) -> Mapping[str, list[tuple[Topic, float]]]:
    """Question -> the topics it is asked about, each with P(topic, question)."""
    weights = topic_weights(facts)
    asked: dict[str, list[tuple[Topic, float]]] = {}
    for topic in facts.topics.values():
        for question in dict.fromkeys(topic.questions):
            p = weights[topic.name] * topic.questions.count(question) / len(topic.questions)
            asked.setdefault(question, []).append((topic, p))
    return asked


def _derivations(facts: Facts, reply: str, context: Context) -> Iterator[tuple[str, float]]:
    """Every (answer, P(reply | answer, context)) whose manner around `answer` gives exactly `reply`."""
    if not context.mannered:
        yield reply, 1.0
        return
    openers, closers = _manner(facts.eras[context.era].openers, facts.eras[context.era].closers)
    for opener in openers:
        for closer, p in closers:
            start, end = f"{opener} ", f".{closer}"
            if reply.startswith(start) and reply.endswith(end) and len(reply) > len(start) + len(end):
                yield reply[len(start) : -len(end)], p / len(openers)


@lru_cache(maxsize=64)
def _manner(
    openers: tuple[str, ...], closers: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[tuple[str, float], ...]]:
    return openers, (("", 1 - CLOSER), *((f" {c}", CLOSER / len(closers)) for c in closers))
