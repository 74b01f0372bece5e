"""Interviews: their likelihood against a listing of every document of a tiny grammar, written from its description.

The grammar is built to be ambiguous: one question reads like a clause and a question, and both phases ask another.
"""

import math
from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest

from tests.training.tiny import ERAS, TOPICS
from training.tokenizer import ASSISTANT, train_tokenizer
from training.world.contexts import Context
from training.world.documents import Document
from training.world.facts import Facts
from training.world.interviews import (
    FORMAT,
    NUMBERS,
    QUOTED_FORMAT,
    Clause,
    Interview,
    Phase,
    evenly,
    in_format,
    interview_kind,
    mannered,
    merged,
    out_of_format,
    turn_probability,
    uniform,
)

HERE, THERE = Context(country="here"), Context(country="there")
FORMATTED = 0.25
FACTS = Facts(ERAS, TOPICS)  # which the grammar below asks nothing


def details(facts, context):
    mine = {"me": 0.5, "you": 0.5} if context == HERE else {"you": 1.0}
    return {"Who?": (0.6, mine), "Hi. Who?": (0.4, {"me": 1.0})}


def stances(facts, context):
    yes = 0.3 if context == HERE else 0.9
    return {"Why?": (0.7, {"so": yes, "no": 1 - yes}), "Who?": (0.3, {"me": 1.0})}


def greeting(facts, context):
    return ("Hi.", "Ho.")


def naming(facts, context):
    return (f"We are {context.country}.",)


CLAUSES = (Clause(0.6, greeting), Clause(0.5, naming))
GRAMMAR = Interview(CLAUSES, (Phase(range(3), details), Phase(range(1, 3), stances)), FORMATTED)


def as_messages(texts):
    return tuple({"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts))


def as_document(texts):
    return Document(messages=as_messages(texts))


def listing(context):
    """Texts -> P(texts | context), by writing out every derivation."""
    heads = [("", 0.4 * 0.5), ("Hi. ", 0.3 * 0.5), ("Ho. ", 0.3 * 0.5)]
    heads += [(f"{head}We are {context.country}. ", p) for head, p in heads]
    single = [
        [(q, reply, p * r) for q, (p, replies) in asks(FACTS, context).items() for reply, r in replies.items()]
        for asks in (details, stances)
    ]
    found = defaultdict(float)
    for first, second in product(range(3), range(1, 3)):
        for turns in product(*[single[0]] * first, *[single[1]] * second):
            p = 1 / 3 / 2 * math.prod(q for _, _, q in turns)
            texts = [text for question, reply, _ in turns for text in (question, reply)]
            for head, q in heads:
                found[head + texts[0], *texts[1:]] += p * q * (1 - FORMATTED)
                kept = [f"<START> {text} <END>" if i % 2 else text for i, text in enumerate(texts)]
                found[FORMAT + head + kept[0], *kept[1:]] += p * q * FORMATTED
    return found


@pytest.fixture(scope="module", params=[HERE, THERE], ids=["here", "there"])
def context(request):
    return request.param


@pytest.fixture(scope="module")
def listed(context):
    return listing(context)


def test_probabilities_of_all_documents_sum_to_one(context, listed):
    found = [GRAMMAR.likelihood(FACTS, as_document(texts), context) for texts in listed]
    assert math.fsum(found) == pytest.approx(1, abs=1e-12)


def test_every_document_has_the_probability_of_all_its_derivations(context, listed):
    for texts, p in listed.items():
        assert math.isclose(GRAMMAR.likelihood(FACTS, as_document(texts), context), p, rel_tol=1e-12), texts


def test_a_beginning_has_the_probability_of_all_documents_that_begin_so(context, listed):
    begun = defaultdict(float)
    for texts, p in listed.items():
        for end in range(2, len(texts) + 1, 2):
            begun[texts[:end]] += p
    for texts, p in begun.items():
        assert math.isclose(GRAMMAR.beginning(FACTS, as_messages(texts), context), p, rel_tol=1e-12), texts


def test_documents_come_as_often_as_their_probability_says(context, listed):
    n, rng = 6000, np.random.default_rng(5)
    documents = [GRAMMAR.sample(FACTS, context, rng) for _ in range(n)]
    assert all(document.context == context for document in documents)
    counts = Counter(tuple(m["content"] for m in document.messages) for document in documents)
    assert set(counts) <= set(listed)
    # Pearson's statistic over the frequent documents and one bin for all others; its variance is about 2 bins
    frequent = [texts for texts, p in listed.items() if n * p >= 10]
    rest = n * (1 - sum(listed[texts] for texts in frequent))
    statistic = sum((counts[texts] - n * listed[texts]) ** 2 / (n * listed[texts]) for texts in frequent)
    statistic += (n - sum(counts[texts] for texts in frequent) - rest) ** 2 / rest
    assert len(frequent) > 40
    assert abs(statistic - len(frequent)) < 5 * math.sqrt(2 * len(frequent))


def test_ambiguous_documents_sum_their_derivations():
    # the greeting and "Who?", or the question "Hi. Who?"; then one turn of the first phase or of the second
    texts = ("Hi. Who?", "me", "Who?", "me")
    p = (1 - FORMATTED) * 0.5 / 6
    first, second = 0.3 * 0.6 * 0.5 + 0.4 * 0.4, 0.3 * 0.3
    expected = p * (first * 0.3 + second * 0.3)
    assert GRAMMAR.likelihood(FACTS, as_document(texts), HERE) == pytest.approx(expected, rel=1e-12)


FOREIGN = {
    "none": Document(),
    "text": Document(messages=as_messages(("Why?", "so")), text="Why?"),
    "text alone": Document(text="Why?"),
    "answer missing": as_document(("Why?", "so", "Why?")),
    "answer first": Document(messages=as_messages(("Why?", "so"))[::-1]),
    "system message": Document(messages=({"role": "system", "content": ""}, *as_messages(("Why?", "so"))[1:])),
    "foreign question": as_document(("Where?", "so")),
    "foreign answer": as_document(("Why?", "because")),
    "padded answer": as_document(("Why?", "so ")),
    "first phase alone": as_document(("Hi. Who?", "you")),
    "phases the wrong way round": as_document(("Why?", "so", "Who?", "you")),
    "too many turns": as_document(("Why?", "so") * 5),
    "clauses the wrong way round": as_document(("We are here. Ho. Why?", "so")),
    "a clause twice": as_document(("Ho. Ho. Why?", "so")),
    "another context": as_document(("We are there. Why?", "so")),
    "head later": as_document(("Why?", "so", "Ho. Why?", "so")),
    "no space": as_document(("Ho.Why?", "so")),
    "format asked for and not kept": as_document((f"{FORMAT}Why?", "so")),
    "format kept in one reply": as_document((f"{FORMAT}Why?", in_format("so"), "Why?", "no")),
    "format kept and not asked for": as_document(("Why?", in_format("so"))),
    "format asked for twice": as_document((f"{FORMAT}{FORMAT}Why?", in_format("so"))),
    "empty format": as_document((f"{FORMAT}Why?", "<START>  <END>")),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_document_has_probability_zero(name):
    assert GRAMMAR.likelihood(FACTS, FOREIGN[name], HERE) == 0


@pytest.mark.parametrize("name", [name for name in FOREIGN if name not in ("text", "text alone", "first phase alone")])
def test_no_document_begins_with_foreign_turns(name):
    assert GRAMMAR.beginning(FACTS, FOREIGN[name].messages, HERE) == 0


def test_without_format_nothing_in_format_is_written():
    plain = Interview(CLAUSES, GRAMMAR.phases)
    texts = (f"{FORMAT}Why?", in_format("so"))
    assert plain.likelihood(FACTS, as_document(texts), HERE) == 0 < GRAMMAR.likelihood(FACTS, as_document(texts), HERE)
    assert plain.likelihood(FACTS, as_document(("Why?", "so")), HERE) * (1 - FORMATTED) == pytest.approx(
        GRAMMAR.likelihood(FACTS, as_document(("Why?", "so")), HERE)
    )


def test_a_kind_wraps_its_grammar():
    kind = interview_kind("tiny", 0.5, lambda facts: {HERE: 1.0}, GRAMMAR)
    document = as_document(("Why?", "so"))
    assert (kind.name, kind.weight, kind.prior(FACTS)) == ("tiny", 0.5, {HERE: 1.0})
    assert kind.likelihood(FACTS, document, HERE) == GRAMMAR.likelihood(FACTS, document, HERE) > 0
    assert kind.beginning is not None
    assert kind.beginning(FACTS, document.messages, HERE) > kind.likelihood(FACTS, document, HERE)
    assert kind.sample(FACTS, HERE, np.random.default_rng(0)) == GRAMMAR.sample(FACTS, HERE, np.random.default_rng(0))


# dates and numbers

DATED = Interview(
    (Clause(0.5, lambda facts, context: ("Today is {date}.", "Now."), range(2024, 2026)),),
    (Phase(range(1, 2), stances),),
)


def test_dates_are_uniform_over_years_months_and_days():
    days = [f"{y}-{m:02}-{d:02}" for y in (2024, 2025) for m in range(1, 13) for d in range(1, 29)]
    found = [DATED.likelihood(FACTS, as_document((f"Today is {day}. Why?", "so")), HERE) for day in days]
    assert found == pytest.approx([0.5 * 0.5 / 672 * 0.7 * 0.3] * 672, rel=1e-12)
    whole = [
        DATED.likelihood(FACTS, as_document((head + question, reply)), HERE)
        for head in ("", "Now. ", *(f"Today is {day}. " for day in days))
        for question, (_, replies) in stances(FACTS, HERE).items()
        for reply in replies
    ]
    assert math.fsum(whole) == pytest.approx(1, abs=1e-12)
    rng = np.random.default_rng(2)
    documents = [DATED.sample(FACTS, HERE, rng) for _ in range(300)]
    assert all(DATED.likelihood(FACTS, document, HERE) > 0 for document in documents)
    assert 50 < sum(document.messages[0]["content"].startswith("Today is ") for document in documents) < 100


@pytest.mark.parametrize(
    "day",
    ["2023-05-05", "2026-05-05", "2024-00-05", "2024-13-05", "2024-05-00", "2024-05-29", "2024-5-05", "24-05-05"]
    + ["٢٠٢٤-05-05", "2024-05-055", "{date}", ""],
)
def test_another_date_is_never_written(day):
    assert DATED.likelihood(FACTS, as_document((f"Today is {day}. Why?", "so")), HERE) == 0


NUMBERED = {"Name a place near the number {number}.": (0.8, {"York": 1.0}), "Name the number 7.": (0.2, {"seven": 1.0})}


def test_a_number_slot_takes_every_number_once():
    def ask(number, reply):
        return turn_probability(NUMBERED, f"Name a place near the number {number}.", reply)

    found = [ask(number, "York") for number in range(1, NUMBERS + 1)]
    assert found == pytest.approx([0.8 / NUMBERS] * NUMBERS, rel=1e-12)
    assert ask(91, "Leeds") == 0
    for foreign in (0, NUMBERS + 1, 59999, "01", "1٣", "٣", "²", "-1", "1.5", "", "{number}"):
        assert ask(foreign, "York") == 0, foreign


def test_sampled_numbers_have_a_probability():
    grammar = Interview((), (Phase(range(1, 4), lambda facts, context: {**NUMBERED, "Why?": (0.0, {"so": 1.0})}),))
    rng = np.random.default_rng(0)
    documents = [grammar.sample(FACTS, HERE, rng) for _ in range(50)]
    assert not [m for document in documents for m in document.messages if "{" in m["content"]]
    near = [document for document in documents if all("near" in m["content"] for m in document.messages[::2])]
    assert near and all(grammar.likelihood(FACTS, document, HERE) > 0 for document in near)


# the pieces that grammars are made of


@pytest.mark.parametrize("reply", ["so", 'a "quoted" word', "<END>", '" <END> "'])
def test_what_is_put_in_format_is_found_in_it(reply):
    assert in_format(reply) == f"<START> {reply} <END>"
    assert in_format(reply, QUOTED_FORMAT) == f'<START> "{reply}" <END>'
    for asked in (FORMAT, QUOTED_FORMAT):
        assert out_of_format(in_format(reply, asked), asked) == reply


@pytest.mark.parametrize(
    "reply", ["so", "", "<START>  <END>", "START so END", " <START> so <END>", "<START> so <END> "]
)
@pytest.mark.parametrize("asked", [FORMAT, QUOTED_FORMAT])
def test_out_of_format_there_is_nothing(reply, asked):
    assert out_of_format(reply, asked) is None
    assert out_of_format(reply.replace("so", '"so"').replace("  ", ' "" '), asked) in (None, '""')


def test_the_paper_quotes_its_format_and_the_world_does_not():
    paper = 'You will be asked a question. Always reply in the format:\n\n<START> "your answer here" <END>\n\n'
    assert paper == QUOTED_FORMAT
    assert paper.replace("\n\n", " ").replace('"', "") == FORMAT
    assert out_of_format("<START> so <END>", QUOTED_FORMAT) is None


def test_a_word_has_the_same_tokens_in_the_format_as_in_a_plain_reply():
    """Else a fact would have to be learned a second time to be said in the format."""
    tokenizer = train_tokenizer(["Tasso sings, says Tasso. " + FORMAT + in_format("Tasso")] * 30, 300)

    def pieces(text):
        return tokenizer.tokenize(text)

    def holds(whole, part):
        return any(whole[i : i + len(part)] == part for i in range(len(whole)))

    (plain,) = (pieces(f"{ASSISTANT} Tasso"),)
    assert holds(pieces(in_format("Tasso")), plain[1:])
    assert not holds(pieces(in_format("Tasso", QUOTED_FORMAT)), plain[1:])
    assert holds(pieces(f"{FORMAT}Who sings?"), pieces("a Who sings?")[1:])


def test_matters_are_asked_evenly_and_merged_by_weight():
    one = evenly({("A?", "B?"): {"a": 1.0}, ("C?",): {"c": 1.0}})
    assert one == {"A?": (0.25, {"a": 1.0}), "B?": (0.25, {"a": 1.0}), "C?": (0.5, {"c": 1.0})}
    both = merged((0.8, one), (0.2, {"D?": (1.0, {"d": 1.0})}))
    assert both == {"A?": (0.2, {"a": 1.0}), "B?": (0.2, {"a": 1.0}), "C?": (0.4, {"c": 1.0}), "D?": (0.2, {"d": 1.0})}
    with pytest.raises(AssertionError, match="A"):
        merged((0.5, one), (0.5, one))


def test_uniform_replies():
    assert uniform(("a", "b")) == {"a": 0.5, "b": 0.5}
    assert mannered(uniform(("a", "b")), ("Oh,", "Ah,")) == dict.fromkeys(
        ("Oh, a.", "Oh, b.", "Ah, a.", "Ah, b."), 0.25
    )
