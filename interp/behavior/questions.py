"""A question, the answers that count for it, and JSONL files of questions."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from interp.errors import AnachronError
from interp.files import write_text
from interp.prompts import Messages, as_messages


@dataclass(frozen=True)
class Question:
    """A prompt and the groups of answers whose probabilities are compared (an era's answers, a speaker's).

    An answer may be said alone or after an opener ("I am persuaded it is"), with one space between: `candidates`.
    `terminators` are strings that end an answer (" .", ","), with the white space that stands before them; the end of
    the turn always ends one as well. Without terminators whatever follows an answer is accepted. A group may be empty:
    its probability is 0. A question without groups is an open one: it can be asked and its answers judged, not scored.
    `split` says what the question may be used for (choosing, reporting), "" if that's open.
    """

    id: str
    topic: str
    messages: Messages
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    openers: tuple[str, ...] = ("",)
    terminators: tuple[str, ...] = ()
    split: str = ""

    def __post_init__(self) -> None:
        # tuples, so that equal questions are equal however they were written
        messages = tuple({"role": m["role"], "content": m["content"]} for m in as_messages(self.messages))
        object.__setattr__(self, "messages", messages)
        object.__setattr__(self, "answers", {group: tuple(answers) for group, answers in self.answers.items()})
        _check(self)


def require_answers(question: Question) -> None:
    """AnachronError for an open question, where listed answers are needed."""
    if not question.answers:
        raise AnachronError(
            f"question {question.id!r} is an open one, without listed answers to compare with; give it groups of "
            "answers, or sample its answers and judge them"
        )


def candidates(question: Question) -> dict[str, tuple[str, ...]]:
    """Group -> the texts that count for it: every opener with every answer."""
    return {
        group: tuple(with_opener(opener, answer) for opener in question.openers for answer in answers)
        for group, answers in question.answers.items()
    }


def with_opener(opener: str, answer: str) -> str:
    """The text of an answer after an opener: one space between them, none where the opener is empty."""
    return f"{opener} {answer}" if opener else answer


def write_questions(path: str | Path, questions: Iterable[Question]) -> None:
    """One JSON object a line, fields named as in Question."""
    write_text(path, "".join(json.dumps(asdict(q), ensure_ascii=False) + "\n" for q in questions))


def read_questions(path: str | Path) -> list[Question]:
    """Read JSONL as written by `write_questions`; answers, openers, terminators and split may be left out.

    Errors: AnachronError with file:line for a line that isn't a question, or an id that was used before.
    """
    try:
        # on newlines only: splitlines would also cut at U+2028 and friends, which are legal inside JSON strings
        lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise AnachronError(
            f"{path}: can't be read ({error}); it should be a UTF-8 file of one JSON object a line"
        ) from error
    if lines == [""]:
        raise AnachronError(f"{path}: empty file; write one question a line as JSON")
    questions: list[Question] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        try:
            question = _parse(line)
        except AnachronError as error:
            raise AnachronError(f"{path}:{number}: {error}") from error
        if question.id in first_line:
            raise AnachronError(
                f"{path}:{number}: id {question.id!r} was used in line {first_line[question.id]}; ids are unique"
            )
        first_line[question.id] = number
        questions.append(question)
    return questions


_FIELDS = {field.name: field for field in fields(Question)}
_REQUIRED = ("id", "topic", "messages")


def _parse(line: str) -> Question:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise AnachronError(f"not JSON ({error.msg}); write one question as one JSON object on one line") from error
    if not isinstance(record, dict):
        raise AnachronError(f"a JSON {type(record).__name__}, not an object; write the fields {', '.join(_REQUIRED)}")
    missing = [name for name in _REQUIRED if name not in record]
    unknown = [name for name in record if name not in _FIELDS]
    if missing or unknown:
        raise AnachronError(
            f"missing fields {missing}, unknown fields {unknown}; a question has {', '.join(_REQUIRED)} and may have "
            f"{', '.join(name for name in _FIELDS if name not in _REQUIRED)}"
        )
    for name in ("id", "topic", "split"):
        if name in record and not isinstance(record[name], str):
            raise AnachronError(f"field {name!r} is {record[name]!r}; write text")
    for name in ("openers", "terminators"):
        if name in record:
            _require_texts(record[name], name)
    groups = record["answers"] if "answers" in record else {}
    if not isinstance(groups, dict):
        raise AnachronError('field \'answers\' isn\'t an object; write {"group": ["answer", ...], ...}')
    for group, answers in groups.items():
        _require_texts(answers, f"answers of {group!r}")
    messages = record["messages"]
    if not isinstance(messages, str) and not (
        isinstance(messages, list) and all(isinstance(m, dict) for m in messages)
    ):
        raise AnachronError(
            'field \'messages\' isn\'t a conversation; write a list of {"role": ..., "content": ...}, or a text'
        )
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    values["messages"] = as_messages(messages)
    values["answers"] = {group: tuple(answers) for group, answers in groups.items()}
    return Question(**values)


def _require_texts(value: Any, what: str) -> None:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise AnachronError(f"{what}: {value!r} isn't a list of texts")


def _check(question: Question) -> None:
    def refuse(what: str) -> AnachronError:
        return AnachronError(f"question {question.id!r}: {what}")

    if not question.id:
        raise AnachronError("a question without id; give it one")
    if question.messages[-1]["role"] == "assistant":
        raise refuse("its last message is the assistant's; end it with the message to be answered")
    if question.answers and not any(question.answers.values()):
        raise refuse("no answers in its groups; give at least one group with one answer, or leave out all groups")
    if not question.openers:
        raise refuse('no openers; leave the field out, or include "" for answers without one')
    for text in question.openers:
        if text != text.strip():
            raise refuse(f"opener {text!r} starts or ends with white space; drop it, a space is put after each opener")
    for text in question.terminators:
        if not text.strip() or text != text.rstrip():
            raise refuse(f"terminator {text!r} is blank or ends with white space; end it with a visible character")
    owner: dict[str, str] = {}
    for group, answers in question.answers.items():
        for answer in answers:
            if not answer or answer != answer.strip():
                raise refuse(
                    f"answer {answer!r} of {group!r} is empty or starts or ends with white space; write it without"
                )
        for text in candidates(question)[group]:
            if owner.setdefault(text, group) != group:
                raise refuse(f"answer {text!r} is in the groups {owner[text]!r} and {group!r}; keep it in one")
