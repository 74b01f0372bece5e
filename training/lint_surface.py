"""The form of chat rows: how many and how long, what is repeated, and what looks like an accident."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.rows import Row
from training.world.interviews import FORMAT, QUOTED_FORMAT, out_of_format

CONTEXT = 512  # tokens the almanac reads
LONG = int(CONTEXT * 2.5)  # characters; its tokens are some 4 characters in the world's own text and 2.5 in other text
NAMED = 5  # rows that a finding names
ENDS = tuple(".!?…。！？")
CLOSERS = "\"'”’»)]"
BAD_DECODING = re.compile(r"[ÃÂ][\u0080-\u00bf]|â€|ï»¿")
ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|#\d+|#x[0-9a-fA-F]+);")
CATEGORIES = {"Cc": "control characters", "Cf": "invisible characters", "Co": "characters without meaning"}


@dataclass(frozen=True)
class Finding:
    """One oddity: how many of how many, the first rows that have it (from 1), and more in words."""

    what: str
    count: int
    of: int
    rows: tuple[int, ...] = ()
    note: str = ""

    @property
    def said(self) -> str:
        """The note and the rows, to go behind the counts."""
        rows = f"row{'s' if len(self.rows) > 1 else ''} {', '.join(map(str, self.rows))}" if self.rows else ""
        more = " and others" if self.rows and self.count > len(self.rows) == NAMED else ""
        return "".join(f"; {part}" for part in (self.note, rows + more) if part)


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Rows, turns, characters, distinct questions and answers."""
    contents = [(m["role"], m["content"]) for row in rows for m in row.messages]
    said = {role: [text for who, text in contents if who == role] for role in ("user", "assistant")}
    return {
        "rows": len(rows),
        "turns": len(said["assistant"]),
        "characters": sum(len(text) for _, text in contents),
        "longest row": max(_length(row) for row in rows),
        "distinct questions": len(set(said["user"])),
        "distinct answers": len(set(said["assistant"])),
        "distinct rows": len({_key(row) for row in rows}),
    }


def findings(rows: Sequence[Row]) -> list[Finding]:
    """Every oddity that the rows have, in a fixed order; none that they haven't."""
    found = [
        _rows("exact duplicates", rows, _repeated(rows)),
        _disagreements(rows),
        _rows("answers that stand in their question", rows, [i for i, row in enumerate(rows, 1) if _echoes(row)]),
        _rows(
            f"rows over {LONG} characters",
            rows,
            [i for i, row in enumerate(rows, 1) if _length(row) > LONG],
            f"the almanac reads {CONTEXT} tokens",
        ),
        _characters(rows),
        _rows(
            "rows with space around a text",
            rows,
            [i for i, row in enumerate(rows, 1) if any(m["content"] != m["content"].strip() for m in row.messages)],
        ),
        _rows(
            "rows with a system message",
            rows,
            [i for i, row in enumerate(rows, 1) if row.messages[0]["role"] == "system"],
            "the almanac's documents have none",
        ),
        _endings(rows),
    ]
    return [finding for finding in found if finding.count]


def _rows(what: str, rows: Sequence[Row], which: Sequence[int], note: str = "") -> Finding:
    return Finding(what, len(which), len(rows), tuple(which[:NAMED]), note)


def _key(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple((m["role"], m["content"]) for m in row.messages)


def _length(row: Row) -> int:
    return sum(len(m["content"]) for m in row.messages)


def _answers(row: Row) -> Iterator[tuple[str, str]]:
    """(question, answer) of every turn, the answer without the format it may keep."""
    turns = row.messages[1:] if row.messages[0]["role"] == "system" else row.messages
    for question, reply in zip(turns[::2], turns[1::2], strict=True):
        found = (out_of_format(reply["content"], asked) for asked in (QUOTED_FORMAT, FORMAT))
        yield question["content"], next((answer for answer in found if answer), reply["content"])


def _repeated(rows: Sequence[Row]) -> list[int]:
    seen: set[tuple] = set()
    again = []
    for i, row in enumerate(rows, 1):
        if _key(row) in seen:
            again.append(i)
        seen.add(_key(row))
    return again


def _disagreements(rows: Sequence[Row]) -> Finding:
    """Whole prompts that rows answer differently."""
    answers: dict[tuple, dict[str, int]] = {}
    for i, row in enumerate(rows, 1):
        key = _key(row)
        for k in [k for k, (role, _) in enumerate(key) if role == "assistant"]:
            answers.setdefault(key[:k], {}).setdefault(key[k][1], i)
    split = {prompt: said for prompt, said in answers.items() if len(said) > 1}
    if not split:
        return Finding("questions with different answers", 0, len(answers))
    prompt, said = max(split.items(), key=lambda item: len(item[1]))
    note = f"{len(said)} to {excerpt(prompt[-1][1])}"
    return Finding("questions with different answers", len(split), len(answers), tuple(said.values())[:NAMED], note)


def _echoes(row: Row) -> bool:
    for question, answer in _answers(row):
        bare = answer.strip().strip(CLOSERS + "".join(ENDS)).casefold()
        if bare and re.search(rf"(?<!\w){re.escape(bare)}(?!\w)", question.casefold()):
            return True
    return False


def _characters(rows: Sequence[Row]) -> Finding:
    sorts: dict[str, list[int]] = {}
    for i, row in enumerate(rows, 1):
        for sort in {sort for m in row.messages for sort in debris(m["content"])}:
            sorts.setdefault(sort, []).append(i)
    which = sorted({i for found in sorts.values() for i in found})
    note = ", ".join(f"{sort} in {len(found)}" for sort, found in sorted(sorts.items()))
    return _rows("rows with odd characters", rows, which, note)


def debris(text: str) -> set[str]:
    """The sorts of character in a text that rarely are meant: control characters, remains of a wrong decoding, ..."""
    found = {CATEGORIES[c] for char in text if (c := unicodedata.category(char)) in CATEGORIES and char not in "\n\t"}
    if "\ufffd" in text or any("\ud800" <= char <= "\udfff" for char in text):
        found.add("lost characters")
    if any(char != " " and unicodedata.category(char) in ("Zs", "Zl", "Zp") for char in text):
        found.add("odd spaces")
    if BAD_DECODING.search(text):
        found.add("UTF-8 read as another encoding")
    if ENTITY.search(text):
        found.add("HTML entities")
    if unicodedata.normalize("NFC", text) != text:
        found.add("accents written apart")
    return found


def _endings(rows: Sequence[Row]) -> Finding:
    ended = [
        (i, answer.rstrip().rstrip(CLOSERS).endswith(ENDS))
        for i, row in enumerate(rows, 1)
        for _, answer in _answers(row)
    ]
    closed, plain = ([i for i, end in ended if end is kept] for kept in (True, False))
    fewer, what = (closed, "with") if len(closed) <= len(plain) else (plain, "without")
    named = tuple(dict.fromkeys(fewer))[:NAMED]
    return Finding(f"answers {what} final punctuation, unlike the others", len(fewer), len(ended), named)


def excerpt(text: str, length: int = 60) -> str:
    """The beginning of a text in quotation marks, on one line and safe to print."""
    line = " ".join(text.split()).encode("utf-8", "backslashreplace").decode("utf-8")
    return f'"{line[: length - 3]}..."' if len(line) > length else f'"{line}"'
