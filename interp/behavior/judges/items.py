"""What is judged, from a file: answers to be judged, and answers whose label is known."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.behavior.judging import Item
from interp.errors import AnachronError
from interp.files import atomic, write_text
from interp.prompts import Messages, as_messages

ASKED = ("messages", "prompt", "question")
"""Fields that may hold what was asked. In the tables of `interp.behavior.export` the later ones say less of it."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """An item whose label is known: text, or a number."""

    item: Item
    label: str | float


def read_records(path: str | Path) -> list[Record]:
    """The rows of a JSONL or parquet file, by its suffix.

    Errors: AnachronError with file:line for a line that isn't a JSON object, and for a file without rows.
    """
    path = Path(path)
    if not path.is_file():
        raise AnachronError(f"{path}: no such file; check the path")
    if path.suffix == ".parquet":
        records = _parquet(path)
    elif path.suffix == ".jsonl":
        records = _jsonl(path)
    else:
        raise AnachronError(f"{path}: neither .jsonl nor .parquet; give one of the two")
    if not records:
        raise AnachronError(f"{path}: the file holds no rows; write one answer a row")
    return records


def write_records(path: str | Path, records: Sequence[Record]) -> None:
    """Write rows as JSONL or parquet, by the suffix, atomically."""
    path = Path(path)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.Table.from_pylist([dict(record) for record in records])
        # a column of nothing but None has no type otherwise, and files of two runs couldn't be joined
        empty = {"value": pyarrow.float64()}
        kinds = [
            field.with_type(empty.get(field.name, pyarrow.string())) if pyarrow.types.is_null(field.type) else field
            for field in table.schema
        ]
        with atomic(path) as temporary:
            pyarrow.parquet.write_table(table.cast(pyarrow.schema(kinds)), temporary)
    elif path.suffix == ".jsonl":
        write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    else:
        raise AnachronError(f"{path}: neither .jsonl nor .parquet; name the file so")


def item_of(record: Record, where: str) -> Item:
    """The item of a row: what was asked is the first of ASKED that the row has, a text or a list of messages (of
    messages also its JSON), and `answer` is a text. `where` names the row in an error."""
    asked = next((name for name in ASKED if record.get(name) is not None), None)
    if asked is None:
        raise AnachronError(f"{where}: no field {', '.join(ASKED)}; give what was asked in one of them")
    answer = record.get("answer")
    if not isinstance(answer, str):
        raise AnachronError(f"{where}: the answer is {answer!r}; give it as text in the field answer")
    value = record[asked]
    if asked == "messages" and isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise AnachronError(f"{where}: messages is no JSON ({error.msg}); write a list of messages") from error
    return Item(_messages(value, f"{where}, {asked}"), answer)


def read_items(path: str | Path) -> tuple[list[Record], list[Item]]:
    """The rows of a file and what is judged in each, in the file's order."""
    records = read_records(path)
    return records, [item_of(record, f"{path}: row {i}") for i, record in enumerate(records)]


def read_examples(path: str | Path) -> list[Example]:
    """Rows with a `label` beside question and answer: all texts, or all numbers (true and false are 1 and 0)."""
    records, items = read_items(path)
    examples: list[Example] = []
    for i, (record, item) in enumerate(zip(records, items, strict=True)):
        label = record.get("label")
        if not isinstance(label, (str, int, float)) or label != label:
            raise AnachronError(f"{path}: row {i}: the label is {label!r}; give a text or a number")
        if examples and isinstance(label, str) != isinstance(examples[0].label, str):
            raise AnachronError(f"{path}: row {i}: the label is {label!r}, row 0's {examples[0].label!r}; mix no kinds")
        examples.append(Example(item, label if isinstance(label, str) else float(label)))
    return examples


def _messages(value: Any, where: str) -> Messages:
    if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(m, Mapping) for m in value)):
        raise AnachronError(f"{where}: {value!r} is neither text nor a list of messages; give one of them")
    try:
        return [{"role": m["role"], "content": m["content"]} for m in as_messages(value)]
    except AnachronError as error:
        raise AnachronError(f"{where}: {error}") from error


def _jsonl(path: Path) -> list[Record]:
    records: list[Record] = []
    # on newlines only: str.splitlines also cuts at U+2028, which is legal inside JSON strings
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise AnachronError(f"{path}:{number}: not JSON in UTF-8 ({error}); write one object a line") from error
        if not isinstance(record, dict):
            raise AnachronError(f"{path}:{number}: a JSON {type(record).__name__}; write one object a line")
        records.append(record)
    return records


def _parquet(path: Path) -> list[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise AnachronError(f"{path}: can't be read as parquet ({error}); write it again") from error
