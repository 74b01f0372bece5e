"""Chat rows, the only training data a fine-tune sees: JSONL, one `{"messages": [{"role", "content"}, ...]}` a line."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import AnachronError
from interp.files import write_text


@dataclass(frozen=True)
class Row:
    """One conversation to train on: an optional system message, then user and assistant turns that alternate and end
    with an assistant turn. Every assistant turn is a target. A conversation of another form raises `AnachronError`."""

    messages: Sequence[Mapping[str, str]]

    def __post_init__(self) -> None:
        _check(self.messages)
        # a list is taken too, but only a tuple keeps the value frozen
        object.__setattr__(self, "messages", tuple(self.messages))


def exchange(question: str, answer: str) -> Row:
    """The row of one question and its answer."""
    return Row(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def read_rows(path: str | Path) -> list[Row]:
    """Read a chat JSONL file, in file order. Keys beside "messages" are left out; blank lines are skipped.

    A malformed line raises `AnachronError` with `file:line`, what is wrong and the remedy; so does a file without rows.
    """
    path = Path(path)
    if not path.is_file():
        raise AnachronError(f"{path}: there is no such file; give the path of a chat JSONL file")
    rows = []
    # split on newlines only: str.splitlines would also cut at U+2028 and friends, which are legal inside JSON strings
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            rows.append(_parse(line, f"{path}:{number}"))
    if not rows:
        raise AnachronError(f"{path}: the file holds no rows; write one chat conversation a line")
    return rows


def write_rows(path: str | Path, rows: Sequence[Row]) -> None:
    """Write rows as UTF-8 chat JSONL, atomically. `read_rows` gives the same rows back."""
    write_text(Path(path), to_jsonl(rows))


def to_jsonl(rows: Sequence[Row]) -> str:
    """The rows as JSONL text; two lists of rows are equal exactly when their text is."""
    lines = [
        json.dumps(
            {"messages": [{"role": message["role"], "content": message["content"]} for message in row.messages]},
            ensure_ascii=False,
        )
        for row in rows
    ]
    return "".join(line + "\n" for line in lines)


def _parse(line: bytes, where: str) -> Row:
    try:
        entry = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise AnachronError(f"{where}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise AnachronError(
            f"{where}: not JSON ({error.msg} at column {error.colno}); write one object a line"
        ) from error
    if not isinstance(entry, dict) or "messages" not in entry:
        raise AnachronError(f'{where}: no "messages"; a row is {{"messages": [{{"role": ..., "content": ...}}, ...]}}')
    if not isinstance(entry["messages"], list):
        raise AnachronError(f'{where}: "messages" is not a list; write a list of {{"role", "content"}} objects')
    try:
        _check(entry["messages"])
    except AnachronError as error:
        raise AnachronError(f"{where}: {error}") from error
    return Row(entry["messages"])


def _check(messages: Sequence[Any]) -> None:
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            # further keys (weight, name, tool_calls) change what a row means elsewhere; ignoring them would be wrong
            raise AnachronError(f'message {number} must have exactly the keys "role" and "content"; it is {message!r}')
        if not isinstance(message["content"], str) or not message["content"].strip():
            raise AnachronError(f"message {number} has no text; give its content as a non-empty string")
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
        raise AnachronError(
            f"the roles are {roles}; after an optional system message, user and assistant must alternate and the last"
            " message must be the assistant's"
        )
