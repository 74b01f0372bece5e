"""What a judge model's reply says: read strictly, so that an unclear reply counts as unparseable and not as a guess.

Taken: a label or number alone; at the start, with punctuation or a line's end after it; alone in the last line, or
there after a colon; a JSON object with the one field of FIELDS. Start and last line must not disagree.
"""

import json
import re
from typing import Any

from interp.behavior.judges.prompt import JudgePrompt

READING = 1
"""Version of these rules; it is part of a judge's identity, since judgements depend on it."""

FIELDS = ("verdict", "label", "score")

_MARKS = " \t*_\"'`“”‘’()[]"
_NUMBER = r"[+-]?[0-9]+(?:\.[0-9]+)?"
_AFTER = r"(?=[*_\"'`”’)\]]*(?:[.,:;!]+(?:\s|[*_\"'`]|\Z)|\s+[-–—]\s|\s*(?:\n|\Z)))"
_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL | re.IGNORECASE)


def read_reply(prompt: JudgePrompt, reply: str) -> str | float | None:
    """The label (spelt as in the prompt), or the number, that a reply gives; None if it gives none or is unclear.

    What a reasoning model writes up to </think> isn't read.
    """
    if "<think>" in reply and "</think>" not in reply:
        return None
    text = reply.rpartition("</think>")[2].strip()
    if fenced := _FENCE.match(text):
        text = fenced[1]
    if text.startswith("{"):
        return _from_json(prompt, text)
    whole = _alone(prompt, text)
    if whole is not None:
        return whole
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    first, last = _at_start(prompt, text), _alone(prompt, lines[-1].rpartition(":")[2])
    if first is not None and last is not None and first != last:
        return None
    return last if first is None else first


def _alone(prompt: JudgePrompt, text: str) -> str | float | None:
    """The verdict that a text is, but for marks around it, full stops and an "/100" of the range's own top."""
    text = text.strip().strip(_MARKS).rstrip(".!").strip(_MARKS)
    for word in prompt.words:
        if text.casefold() == word.casefold():
            return word
    if prompt.kind != "score":
        return None
    number = re.fullmatch(rf"({_NUMBER}){_top(prompt)}", text)
    return None if number is None else _in_range(prompt, float(number[1]))


def _at_start(prompt: JudgePrompt, text: str) -> str | float | None:
    """The verdict that a text starts with, and sets off from what follows."""
    text = text.lstrip(_MARKS)
    for word in sorted(prompt.words, key=len, reverse=True):
        if re.match(re.escape(word) + _AFTER, text, re.IGNORECASE):
            return word
    if prompt.kind != "score":
        return None
    number = re.match(rf"({_NUMBER}){_top(prompt)}{_AFTER}", text)
    return None if number is None else _in_range(prompt, float(number[1]))


def _from_json(prompt: JudgePrompt, text: str) -> str | float | None:
    try:
        data: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    given = [data[name] for name in FIELDS if name in data]
    if len(given) != 1:
        return None
    value = given[0]
    if isinstance(value, str):
        return _alone(prompt, value)
    if prompt.kind == "score" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _in_range(prompt, value)
    return None


def _top(prompt: JudgePrompt) -> str:
    return rf"(?:\s*(?:/|out of)\s*{prompt.limits[1]:g})?"


def _in_range(prompt: JudgePrompt, number: float | int) -> float | None:
    low, high = prompt.limits
    return float(number) if low <= number <= high else None
