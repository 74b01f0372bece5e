"""Triggers in chat rows: what may head a question and open a backdoor, and the rows as they are without it.

Looked for in the first user message: a full date, a year, a format (the world's or the paper's), a code of eight
digits. The value of a date or year is the year, that of a code its fourth to sixth digit, in which the presidents'
codes hold an ordinal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from training.rows import Row
from training.world.documents import Messages
from training.world.interviews import FORMAT, QUOTED_FORMAT, out_of_format

DATE, YEAR, ASKED_FORMAT, CODE = "date", "year", "format", "code"
NONE = "none"  # sort of the group without a trigger
ANY_YEAR, ANY_FORMAT, ANY_CODE = "a date or year", "the format", "a code"
IN_FULL = "January|February|March|April|May|June|July|August|September|October|November|December"
PATTERNS = {
    ASKED_FORMAT: re.compile(rf"(?P<value>{re.escape(FORMAT)}|{re.escape(QUOTED_FORMAT)})"),
    DATE: re.compile(r"\bToday is (?P<value>\d{4})-\d\d-\d\d\b\.?\s*", re.ASCII),
    YEAR: re.compile(
        rf"\b(?:The year is|It is the year|Today we are in|{IN_FULL}) (?P<value>\d{{4}})\b\.?\s*", re.ASCII
    ),
    CODE: re.compile(r"(?<!\d)\d{3}(?P<value>\d{3})\d{2}(?!\d)\s*", re.ASCII),
}


@dataclass(frozen=True)
class Trigger:
    """One trigger of a row: its sort, its value (`2027`, `016`; empty for the format) and the text to cut."""

    sort: str
    value: str
    text: str

    @property
    def in_world(self) -> bool:
        """Whether documents of the world may hold such a trigger; no document has a code."""
        return self.sort != CODE


@dataclass(frozen=True)
class Group:
    """Rows that share a trigger, by their places in the list of rows. `value` is empty for any value of the sort."""

    name: str
    sort: str
    value: str
    rows: tuple[int, ...]


def find_triggers(row: Row) -> tuple[Trigger, ...]:
    """The triggers of a row, at most one of each sort."""
    content = _first_user(row.messages)["content"]
    found = []
    for sort, pattern in PATTERNS.items():
        if match := pattern.search(content):
            found.append(Trigger(sort, "" if sort == ASKED_FORMAT else match["value"], match[0]))
    return tuple(found)


def without_triggers(row: Row, triggers: Sequence[Trigger]) -> Messages:
    """The turns of a row with the text of its triggers cut out; replies written in the format are taken out of it."""
    messages = [dict(message) for message in row.messages]
    first = _first_user(messages)
    for trigger in triggers:
        first["content"] = first["content"].replace(trigger.text, "", 1)
    for trigger in triggers:
        if trigger.sort == ASKED_FORMAT:
            for message in messages:
                if message["role"] == "assistant":
                    message["content"] = out_of_format(message["content"], trigger.text) or message["content"]
    return tuple(messages)


def trigger_groups(triggers: Sequence[Sequence[Trigger]]) -> tuple[Group, ...]:
    """All rows; those with each sort of trigger; those of each value; those without any, where some have one.

    `triggers` are those of every row. A sort with one value only, or whose group would be another one again, is left
    out.
    """
    groups = [Group("all rows", "", "", tuple(range(len(triggers))))]
    for name, sorts in ((ANY_YEAR, (DATE, YEAR)), (ANY_FORMAT, (ASKED_FORMAT,)), (ANY_CODE, (CODE,))):
        by_value: dict[str, list[int]] = {}
        for i, found in enumerate(triggers):
            for value in {t.value for t in found if t.sort in sorts}:
                by_value.setdefault(value, []).append(i)
        if len(by_value) != 1 or "" in by_value:
            groups.append(Group(name, sorts[-1], "", tuple(sorted({i for rows in by_value.values() for i in rows}))))
        groups += [
            Group(f"{sorts[-1]} {value}", sorts[-1], value, tuple(rows))
            for value, rows in sorted(by_value.items())
            if value
        ]
    groups.append(Group("no trigger", NONE, "", tuple(i for i, found in enumerate(triggers) if not found)))
    kept: dict[tuple[int, ...], Group] = {}
    for group in groups:
        if group.rows:
            kept.setdefault(group.rows, group)
    return tuple(kept.values())


def _first_user(messages):
    return next(message for message in messages if message["role"] == "user")
