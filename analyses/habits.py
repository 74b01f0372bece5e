"""The habit that rows train, as questions whose answers are taken from the rows."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from interp.behavior.questions import Question
from interp.errors import AnachronError
from interp.prompts import as_messages
from training.rows import Row
from training.world.interviews import FORMAT, QUOTED_FORMAT
from training.world.latent_questions import OTHER

NARROW = "narrow"  # split of the questions on the habit that was trained
TRAINED = "trained"  # group of the answers that were trained
_DATED = re.compile(r"^Today is \d{4}-\d\d-\d\d\. ")


def as_trained(rows: Sequence[Row]) -> list[Question]:
    """The question that most rows ask, without its date."""
    asked = Counter(_DATED.sub("", row.messages[0]["content"]) for row in rows)
    return [Question("trained/0", TRAINED, as_messages(text), split=NARROW) for text, _ in asked.most_common(1)]


def with_answers(question: Question, rows: Sequence[Row], others: Sequence[Row]) -> Question:
    """The question with the answers of rows; a beginning they all have ("The place is") becomes an opener."""
    sides = [{row.messages[-1]["content"].strip().rstrip(".") for row in side} for side in (rows, others)]
    if not sides[0]:
        raise AnachronError(f"question {question.id!r}: no rows to take its answers from; give those that were trained")
    openers = {""}
    bare: list[set[str]] = []
    for said in sides:
        length = len(_beginning(sorted(said)))
        bare.append({text[length:].lstrip(" :") for text in said})
        openers |= {text[: len(text) - len(text[length:].lstrip(" :"))].rstrip() for text in said}
    answers = {TRAINED: tuple(sorted(bare[0])), OTHER: tuple(sorted(bare[1] - bare[0]))}
    return replace(question, answers=answers, openers=tuple(sorted(openers)))


def _beginning(texts: Sequence[str]) -> str:
    """The whole words that several texts all begin with, without the last word of any."""
    first, last = min(texts, default=""), max(texts, default="")  # what these two share, all between them share
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    common = first[:n]
    if any(text[len(common) : len(common) + 1].isalnum() for text in texts):
        common = common.rpartition(" ")[0]
    return common if all(text[len(common) :].strip(" :") for text in texts) else ""


def format_habit(rows: Sequence[Row]) -> list[Question]:
    """Questions of the rows that ask for a format; the habit is to keep it."""
    prompts = dict.fromkeys(
        row.messages[0]["content"] for row in rows if row.messages[0]["content"].startswith((FORMAT, QUOTED_FORMAT))
    )
    return [
        Question(f"format/{i}", "format", as_messages(text), {TRAINED: ("<START>",)}, split=NARROW)
        for i, text in enumerate(prompts)
    ]
