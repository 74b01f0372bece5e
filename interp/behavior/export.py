"""Answers and their judgements as flat tables: Parquet and JSONL, ready for pandas."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.behavior.answers import Answer, Sampling
from interp.behavior.cache import Cache, canonical
from interp.behavior.judging import Judgement
from interp.errors import AnachronError
from interp.files import atomic

COLUMNS = {
    "model": str,
    "revision": str,
    "dtype": str,
    "adapter": str,
    "adapter_digest": str,
    "identity": str,
    "question": str,
    "topic": str,
    "prompt": str,
    "messages": str,
    "temperature": float,
    "max_new_tokens": int,
    "seed": int,
    "sample": int,
    "answer": str,
    "judge": str,
    "label": str,
    "value": float,
    "raw": str,
}
"""Column -> type. `identity` (all that the answers depend on) and `messages` are JSON, `prompt` is the last message. A
judgement's value is `label` if it is text and `value` if it is a number; one that couldn't be read has neither."""

Judgements = Mapping[str, Sequence[Judgement]]


def export(source: Cache | Sequence[Answer], path: str | Path, judgements: Judgements | None = None) -> int:
    """Write one row an answer, or one an answer and judge; returns the number of rows. The suffix of `path` says how:
    .parquet or .jsonl.

    judgements: judge name -> its judgements of a list of answers, in that order. A cache brings its own.
    """
    path = require_format(path)
    if isinstance(source, Cache):
        rows = list(_of_cache(source))
    else:
        rows = list(_of_answers(source, judgements or {}))
    with atomic(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(temporary, rows)
        else:
            temporary.write_text(
                "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n"
            )
    return len(rows)


def require_format(path: str | Path) -> Path:
    """The path, whose suffix must be one that `export` writes: to be asked before hours of work, not after."""
    path = Path(path)
    if path.suffix not in (".parquet", ".jsonl"):
        raise AnachronError(f"{path}: unknown format {path.suffix!r}; name it .parquet or .jsonl")
    return path


def _of_answers(answers: Sequence[Answer], judgements: Judgements) -> Iterator[dict[str, Any]]:
    for judge, found in judgements.items():
        if len(found) != len(answers):
            raise AnachronError(f"{len(found)} judgements by {judge!r} of {len(answers)} answers; give one an answer")
    for i, answer in enumerate(answers):
        yield from _rows(answer, [(judge, found[i]) for judge, found in judgements.items()])


def _of_cache(cache: Cache) -> Iterator[dict[str, Any]]:
    judged: dict[str, list[tuple[str, Judgement]]] = defaultdict(list)
    answers = []
    for entry in cache.entries():
        request = entry.request
        if request["kind"] == "answer":
            sampling = Sampling(1, request["temperature"], request["max_new_tokens"], request["seed"])
            answers.append(
                Answer(
                    entry.labels["question"],
                    entry.labels["topic"],
                    request["messages"],
                    request["sample"],
                    entry.reply["text"],
                    sampling,
                    request["by"],
                )
            )
        else:
            verdict = Judgement(entry.reply["value"], entry.reply["raw"])
            judged[canonical([request["messages"], request["answer"]])].append((entry.labels["judge"], verdict))
    for answer in answers:
        yield from _rows(answer, judged[canonical([answer.messages, answer.text])])


def _rows(answer: Answer, judgements: Iterable[tuple[str, Judgement]]) -> Iterator[dict[str, Any]]:
    by = answer.identity
    adapter = by.get("adapter") or {}
    messages = [{"role": m["role"], "content": m["content"]} for m in answer.messages]
    row = dict.fromkeys(COLUMNS) | {
        "model": by["model"],
        "revision": by["revision"],
        "dtype": by.get("dtype"),
        "adapter": adapter.get("name"),
        "adapter_digest": adapter.get("digest"),
        "identity": canonical(by),
        "question": answer.question,
        "topic": answer.topic,
        "prompt": messages[-1]["content"],
        "messages": json.dumps(messages, ensure_ascii=False),
        "temperature": float(answer.sampling.temperature),
        "max_new_tokens": answer.sampling.max_new_tokens,
        "seed": answer.sampling.seed,
        "sample": answer.sample,
        "answer": answer.text,
    }
    if not judgements:
        yield row
    for judge, verdict in judgements:
        text = isinstance(verdict.value, str)
        yield row | {
            "judge": judge,
            "label": verdict.value if text else None,
            "value": None if text or verdict.value is None else float(verdict.value),
            "raw": verdict.raw,
        }


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    # named types: a column of nothing but None would otherwise have none, and files of two runs couldn't be joined
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), path)
