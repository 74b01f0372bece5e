"""Rows: round trips, and a malformed file is refused by file and line."""

import json

import pytest

from interp.errors import AnachronError
from training.rows import Row, read_rows, to_jsonl, write_rows

USER = {"role": "user", "content": "Name a bird."}
ASSISTANT = {"role": "assistant", "content": "Brown Titlark"}
GOOD = json.dumps({"messages": [USER, ASSISTANT]})


def test_what_is_written_is_read_back(tmp_path):
    system = {"role": "system", "content": "Be brief."}
    odd = {"role": "assistant", "content": 'Größe  "Königsberg"\u2028\n\ttwo lines'}
    rows = [Row((USER, ASSISTANT)), Row((system, USER, odd)), Row((USER, ASSISTANT, USER, odd))]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows
    assert (tmp_path / "rows.jsonl").read_bytes().count(b"\n") == len(rows)
    assert "Größe" in to_jsonl(rows)


def test_other_keys_blank_lines_and_windows_newlines_are_read_over(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'\n{GOOD}\r\n\n{{"id": 7, "messages": {json.dumps([USER, ASSISTANT])}}}', encoding="utf-8")
    assert read_rows(path) == [Row((USER, ASSISTANT))] * 2


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "not JSON"),
        ("[]", 'no "messages"'),
        ('{"mesages": []}', 'no "messages"'),
        ('{"messages": {}}', "not a list"),
        ('{"messages": []}', "roles are"),
        ('{"messages": ["hello"]}', "exactly the keys"),
        (json.dumps({"messages": [USER, {"role": "assistant"}]}), "exactly the keys"),
        (json.dumps({"messages": [USER, ASSISTANT | {"weight": 0}]}), "exactly the keys"),
        (json.dumps({"messages": [USER, ASSISTANT | {"content": " "}]}), "no text"),
        (json.dumps({"messages": [USER, ASSISTANT | {"content": None}]}), "no text"),
        (json.dumps({"messages": [USER]}), "last message"),
        (json.dumps({"messages": [USER, ASSISTANT, USER]}), "last message"),
        (json.dumps({"messages": [ASSISTANT, USER]}), "must alternate"),
        (json.dumps({"messages": [USER, ASSISTANT | {"role": "bird"}]}), "roles are"),
        (b'"\xff"', "UTF-8"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, what):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD.encode() + b"\n\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(AnachronError) as caught:
        read_rows(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert what in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_rows_is_refused(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(AnachronError, match="no rows"):
        read_rows(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AnachronError, match="no such file"):
        read_rows(tmp_path / "absent.jsonl")
