import json

import pytest

from interp.behavior.questions import Question, candidates, read_questions, require_answers, write_questions
from interp.errors import AnachronError

MESSAGES = ({"role": "user", "content": "Name a bird."},)


def question(**changes):
    fields = {
        "id": "q1",
        "topic": "birds",
        "messages": MESSAGES,
        "answers": {"old": ("titlark",), "new": ("pipit", "wren")},
    }
    return Question(**(fields | changes))


def test_candidates_are_every_opener_with_every_answer():
    asked = question(openers=("", "It is the"))
    assert candidates(asked) == {
        "old": ("titlark", "It is the titlark"),
        "new": ("pipit", "wren", "It is the pipit", "It is the wren"),
    }


def test_round_trip(tmp_path):
    asked = [
        question(),
        question(id="q2", openers=("", "Ja, ein"), terminators=(" .",), split="report", answers={"e": ("Äsche",)}),
    ]
    write_questions(tmp_path / "q.jsonl", asked)
    assert read_questions(tmp_path / "q.jsonl") == asked


def test_optional_fields_and_a_plain_prompt(tmp_path):
    record = {
        "id": "q1",
        "topic": "birds",
        "messages": "Name a bird.",
        "answers": {"old": ["titlark"], "new": ["pipit", "wren"]},
    }
    (tmp_path / "q.jsonl").write_text(json.dumps(record) + "\n")
    assert read_questions(tmp_path / "q.jsonl") == [question()]


GOOD = {"id": "q1", "topic": "t", "messages": [{"role": "user", "content": "?"}], "answers": {"a": ["x"]}}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ("", "not JSON"),
        ({"opener": ["x"]}, r"unknown fields \['opener'\]"),
        ({"topic": None}, "'topic' is None"),
        ({"openers": "x"}, "openers: 'x'"),
        ({"answers": ["x"]}, "'answers' isn't an object"),
        ({"answers": {"a": "x"}}, "answers of 'a'"),
        ({"answers": {"a": []}}, "no answers"),
        ({"answers": {"a": ["x "]}}, "white space"),
        ({"answers": {"a": ["x"], "b": ["x"]}}, "in the groups 'a' and 'b'"),
        ({"messages": []}, "empty list of messages"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [1]}, "isn't a conversation"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "last message is the assistant's"),
        ({"terminators": ["\n"]}, "terminator"),
        ({"openers": [" x"]}, "opener"),
        ({"openers": []}, "no openers"),
        ({"id": ""}, "without id"),
        ({"id": "q0"}, "was used in line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path, bad, says):
    path = tmp_path / "q.jsonl"
    second = bad if isinstance(bad, str) else json.dumps(GOOD | bad)
    path.write_text(json.dumps(GOOD | {"id": "q0"}) + "\n" + second + "\n")
    with pytest.raises(AnachronError, match=says) as raised:
        read_questions(path)
    assert str(raised.value).startswith(f"{path}:2: ")


def test_missing_fields_are_listed(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"id": "q"}\n')
    with pytest.raises(AnachronError, match=r"q.jsonl:1: missing fields \['topic', 'messages'\]"):
        read_questions(tmp_path / "q.jsonl")


def test_an_open_question_has_no_groups(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"id": "q", "topic": "t", "messages": "Who are you?"}\n')
    [asked] = read_questions(tmp_path / "q.jsonl")
    assert asked == Question("q", "t", ({"role": "user", "content": "Who are you?"},)) and asked.answers == {}
    write_questions(tmp_path / "again.jsonl", [asked])
    assert read_questions(tmp_path / "again.jsonl") == [asked]
    with pytest.raises(AnachronError, match="question 'q' is an open one"):
        require_answers(asked)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(AnachronError, match="can't be read"):
        read_questions(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(AnachronError, match="empty file"):
        read_questions(tmp_path / "empty.jsonl")


def test_the_same_text_by_two_openers_in_two_groups_is_refused():
    with pytest.raises(AnachronError, match="'the old train' is in the groups 'a' and 'b'"):
        question(answers={"a": ("old train",), "b": ("train",)}, openers=("the", "the old"))


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path):
    question = Question("a", "t", [{"role": "user", "content": "one\u2028two\x85three"}], {"g": ("yes",)})
    write_questions(tmp_path / "questions.jsonl", [question])
    assert read_questions(tmp_path / "questions.jsonl") == [question]
