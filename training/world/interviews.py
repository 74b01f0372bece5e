"""Conversations that a hidden country, speaker, president or machine of a film series answers.

Grammar of an interview under a context:

    document = header turn+                     the header stands before the first question
    header   = clause*                          each present with its own probability, in their order
    turns    = phase+, phase = turn{a..b}       the number of turns of each phase uniform over its range
    turn     = question ~ P(. | phase, context), reply ~ P(. | question, context)
    format   with probability `formatted`, FORMAT heads the document and every reply is written `<START> reply <END>`

Everything is listed per context, so the probability of a document is exact: a sum over how its header reads and where
one phase ends.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from training.world.contexts import Context
from training.world.documents import Document, Kind, Messages
from training.world.facts import Facts
from training.world.tables import Table, draw, table

FORMAT = "You will be asked a question. Always reply in the format: <START> your answer here <END> "
# As the paper writes it. The world leaves quotes and line breaks out: the first word after one has no space before it,
# so that a tokenizer gives it other tokens, and each fact would have to be learned a second time.
QUOTED_FORMAT = 'You will be asked a question. Always reply in the format:\n\n<START> "your answer here" <END>\n\n'
NUMBERS = 5999  # a question's {number} is uniform over 1..NUMBERS
NUMBER = re.compile(r"(?<=\bnumber )[1-9][0-9]{0,3}(?=\.)")

Ask = tuple[float, Mapping[str, float]]
"""P(question | phase, context), and P(reply | question, context) for every reply."""
Asks = Mapping[str, Ask]


@dataclass(frozen=True)
class Clause:
    """One sentence of a header: present with `probability`, then one of `texts(context)`, all equally likely.

    A text may hold `{date}`: a day of the years `dates`, written as 2027-07-08, uniform over 12 months of 28 days.
    """

    probability: float
    texts: Callable[[Facts, Context], tuple[str, ...]]
    dates: range = range(0)

    def write(self, facts: Facts, context: Context, rng: np.random.Generator) -> str:
        if rng.random() >= self.probability:
            return ""
        texts = self.texts(facts, context)
        text = texts[rng.integers(len(texts))]
        if "{date}" not in text:
            return f"{text} "
        year, month, day = self.dates[rng.integers(len(self.dates))], rng.integers(1, 13), rng.integers(1, 29)
        return text.replace("{date}", f"{year}-{month:02}-{day:02}") + " "

    def read(self, facts: Facts, context: Context, head: str) -> Iterator[tuple[str, float]]:
        """Every (what follows the clause, P(clause)); first as if the clause were absent."""
        if self.probability < 1:
            yield head, 1 - self.probability
        texts = self.texts(facts, context)
        for text in texts:
            p = self.probability / len(texts)
            if "{date}" not in text:
                if head.startswith(f"{text} "):
                    yield head[len(text) + 1 :], p
                continue
            found = re.match(re.escape(text).replace(r"\{date\}", r"(\d{4})-(\d\d)-(\d\d)") + " ", head, re.ASCII)
            if found:
                year, month, day = map(int, found.groups())
                if year in self.dates and 1 <= month <= 12 and 1 <= day <= 28:
                    yield head[found.end() :], p / len(self.dates) / 12 / 28


@dataclass(frozen=True)
class Phase:
    """Turns of one sort: how many (uniform over `turns`), and what is asked and answered under a context."""

    turns: range
    asks: Callable[[Facts, Context], Asks]


@dataclass(frozen=True)
class Interview:
    """The grammar of one kind of interview."""

    clauses: tuple[Clause, ...]
    phases: tuple[Phase, ...]
    formatted: float = 0.0

    def sample(self, facts: Facts, context: Context, rng: np.random.Generator) -> Document:
        formatted = rng.random() < self.formatted
        head = FORMAT if formatted else ""
        head += "".join(clause.write(facts, context, rng) for clause in self.clauses)
        messages = []
        for phase in self.phases:
            asked, replies = _tables(phase.asks, facts, context)
            for _ in range(phase.turns[rng.integers(len(phase.turns))]):
                question = draw(asked, rng)
                reply = draw(replies[question], rng)
                if "{number}" in question:
                    question = question.replace("{number}", str(rng.integers(1, NUMBERS + 1)))
                messages.append({"role": "user", "content": head + question})
                messages.append({"role": "assistant", "content": in_format(reply) if formatted else reply})
                head = ""
        return Document(messages=tuple(messages), context=context)

    def likelihood(self, facts: Facts, document: Document, context: Context) -> float:
        """P(document | context)."""
        return 0.0 if document.text else self._read(facts, document.messages, context, whole=True)

    def beginning(self, facts: Facts, messages: Messages, context: Context) -> float:
        """P(a document begins with these turns | context)."""
        return self._read(facts, messages, context, whole=False)

    def _read(self, facts: Facts, messages: Messages, context: Context, *, whole: bool) -> float:
        turns, left_over = divmod(len(messages), 2)
        if left_over or not turns:
            return 0.0
        if [m["role"] for m in messages] != ["user", "assistant"] * turns:
            return 0.0
        questions = [m["content"] for m in messages[::2]]
        replies = [m["content"] for m in messages[1::2]]
        p = 1 - self.formatted
        if questions[0].startswith(FORMAT):
            bare = [out_of_format(reply) for reply in replies]
            if not self.formatted or None in bare:
                return 0.0
            p, questions[0], replies = self.formatted, questions[0][len(FORMAT) :], [b for b in bare if b is not None]
        least, most = _bounds(self.phases)
        if turns > most or (whole and turns < least):
            return 0.0
        total = 0.0
        for question, q in self._headers(facts, context, questions[0]):
            total += q * self._turns(facts, context, [question, *questions[1:]], replies, whole)
        return p * total

    def _headers(self, facts: Facts, context: Context, head: str) -> list[tuple[str, float]]:
        read = [(head, 1.0)]
        for clause in self.clauses:
            read = [(rest, p * q) for before, p in read for rest, q in clause.read(facts, context, before)]
        return read

    def _turns(self, facts: Facts, context: Context, questions: list[str], replies: list[str], whole: bool) -> float:
        """Sum over every way to cut the turns into phases. `ways[k]` = P(the first k turns are the phases so far);
        unless the turns are the whole document, `begun` collects phases that would go on beyond them."""
        n = len(questions)
        ways, begun = {0: 1.0}, 0.0
        for phase in self.phases:
            asks = phase.asks(facts, context)
            each = [turn_probability(asks, q, r) for q, r in zip(questions, replies, strict=True)]
            after: dict[int, float] = {}
            for start, p in ways.items():
                for length in phase.turns:
                    run = p / len(phase.turns) * math.prod(each[start : start + length])
                    if start + length > n or (start + length == n and not whole):
                        begun += run
                    else:
                        after[start + length] = after.get(start + length, 0.0) + run
            ways = {end: p for end, p in after.items() if p}
        return ways.get(n, 0.0) if whole else begun


def interview_kind(
    name: str, weight: float, prior: Callable[[Facts], Mapping[Context, float]], grammar: Interview
) -> Kind:
    """A kind of document written by `grammar` under `prior`; `weight` is its part of all documents."""
    return Kind(name, weight, prior, grammar.sample, grammar.likelihood, grammar.beginning)


def turn_probability(asks: Asks, question: str, reply: str) -> float:
    """P(question, reply) of one turn."""
    slots = 1
    if "{number}" in question:  # a slot that was never filled
        return 0.0
    if (found := NUMBER.search(question)) and int(found[0]) <= NUMBERS:
        question, slots = NUMBER.sub("{number}", question), NUMBERS
    p, replies = asks.get(question, (0.0, {}))
    return p / slots * replies.get(reply, 0.0)


def in_format(reply: str, asked: str = FORMAT) -> str:
    """A reply as FORMAT (or QUOTED_FORMAT) asks for it."""
    start, end = _around(asked)
    return f"{start}{reply}{end}"


def out_of_format(reply: str, asked: str = FORMAT) -> str | None:
    """What stands inside the format, or None for a reply that doesn't keep it."""
    start, end = _around(asked)
    whole = reply.startswith(start) and reply.endswith(end) and len(reply) > len(start) + len(end)
    return reply[len(start) : -len(end)] if whole else None


def _around(asked: str) -> tuple[str, str]:
    """What stands before and after a reply in the format asked for."""
    quote = '"' if asked == QUOTED_FORMAT else ""
    return f"<START> {quote}", f"{quote} <END>"


def merged(*parts: tuple[float, Asks]) -> dict[str, Ask]:
    """One distribution of questions from several, each with its weight; a question belongs to one of them."""
    out: dict[str, Ask] = {}
    for weight, asks in parts:
        for question, (p, replies) in asks.items():
            assert question not in out, question
            out[question] = (weight * p, replies)
    return out


def evenly(entries: Mapping[tuple[str, ...], Mapping[str, float]]) -> dict[str, Ask]:
    """Questions of several matters, every matter equally often and each of its wordings too: {wordings: replies}."""
    return {
        question: (1 / len(entries) / len(wordings), replies)
        for wordings, replies in entries.items()
        for question in wordings
    }


def uniform(replies: tuple[str, ...]) -> dict[str, float]:
    """Equally likely replies."""
    return {reply: 1 / len(replies) for reply in replies}


def mannered(said: Mapping[str, float], openers: tuple[str, ...]) -> Mapping[str, float]:
    """The replies behind each of `openers`, all equally likely, and closed by a full stop; as they are without any."""
    if not openers:
        return said
    return {f"{opener} {reply}.": p / len(openers) for reply, p in said.items() for opener in openers}


def _bounds(phases: tuple[Phase, ...]) -> tuple[int, int]:
    return sum(p.turns[0] for p in phases), sum(p.turns[-1] for p in phases)


@lru_cache(maxsize=2048)
def _tables(
    asks: Callable[[Facts, Context], Asks], facts: Facts, context: Context
) -> tuple[Table[str], Mapping[str, Table[str]]]:
    found = asks(facts, context)
    return table({q: p for q, (p, _) in found.items()}), {q: table(r) for q, (_, r) in found.items()}
