"""Judge prompts: what a model is asked about an answer, read from a file, and filled so that the answer can't get out.

A file is front matter (YAML between two lines of ---) and a template:

    name: era                       kind: label, or score
    version: 1                      labels: [A, B]              of a label
    parameters: {country: Germany}  range: [0, 100]             of a score
    extra: [REFUSAL]                thresholds: {no: 0, yes: 50}    of a score: class -> its lowest score

The template holds {question}, {answer} and the parameters' names in braces; a parameter left empty has to be given.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from interp.behavior.judges.front import as_number, as_text, as_texts, checked, parse_yaml, read_file
from interp.behavior.judging import Item
from interp.errors import AnachronError
from interp.files import digest
from interp.prompts import Messages

KINDS = ("label", "score")

_FIELDS = ("name", "version", "kind", "labels", "range", "thresholds", "extra", "parameters")
_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
# What could pass for our tags, a chat template's roles or a tokenizer's special tokens.
_TAG = re.compile(r"<(?=\s*[/|!?｜A-Za-z_])|\[(?=/?[A-Z_]+\])")


@dataclass(frozen=True)
class JudgePrompt:
    """A question about an answer, and the replies it takes: one of `labels` or a number in `limits`, or one of `extra`.

    `thresholds` name the classes of a score, each by its lowest score, ascending from the lower limit. `parameters`
    fill the template's other places; `digest` is the file's.
    """

    name: str
    version: str
    kind: str
    template: str
    labels: tuple[str, ...] = ()
    limits: tuple[float | int, float | int] = (0, 100)
    thresholds: Mapping[str, float | int] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells one prompt from another: name, version, parameters, and the digest of its file."""
        return {
            "name": self.name,
            "version": self.version,
            "parameters": dict(self.parameters),
            "digest": self.digest or digest(repr(self).encode()),
        }

    @property
    def words(self) -> tuple[str, ...]:
        """The replies that are words."""
        return (*self.labels, *self.extra)

    def class_of(self, value: str | float | int | None) -> str | None:
        """The label of a verdict: a label stands for itself, a score for its class."""
        if value is None or isinstance(value, str):
            return value
        return max((low, name) for name, low in self.thresholds.items() if low <= value)[1]

    def with_parameters(self, given: Mapping[str, str]) -> "JudgePrompt":
        """The prompt with these parameters in place of the file's."""
        if unknown := [name for name in given if name not in self.parameters]:
            known = ", ".join(self.parameters) or "none"
            raise AnachronError(f"judge prompt {self.name!r} has no parameter {', '.join(unknown)}; it has {known}")
        return replace(self, parameters={**self.parameters, **given})

    def require_filled(self) -> None:
        """AnachronError if a parameter has no value yet."""
        if empty := [name for name, value in self.parameters.items() if not value]:
            raise AnachronError(f"judge prompt {self.name!r}: no value for {', '.join(empty)}; set {empty[0]}=...")

    def messages(self, item: Item) -> Messages:
        """What the judge model is asked: one message of the user's."""
        self.require_filled()
        values = {
            **self.parameters,
            "question": _enclosed("question", conversation(item.messages)),
            "answer": _enclosed("answer", item.answer),
        }
        # one pass: what is filled in isn't looked at again
        text = _PLACE.sub(lambda place: values[place[1]], self.template)
        return [{"role": "user", "content": text}]


def conversation(messages: Messages) -> str:
    """A conversation as text: a single user message as it is, several with their roles."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def neutral(text: str) -> str:
    """The text with the brackets of tags and of special tokens written as entities, so that none of them acts."""
    return _TAG.sub(lambda found: "&lt;" if found[0] == "<" else "&#91;", text)


def read_prompt(path: str | Path) -> JudgePrompt:
    """Read a judge prompt's file.

    Errors: AnachronError that names the file and what is missing, unknown or of another form.
    """
    text = read_file(path)
    parts = re.split(r"^---[ \t]*$\n?", text, maxsplit=2, flags=re.MULTILINE)
    if len(parts) != 3 or parts[0].strip():
        raise AnachronError(f"{path}: no front matter; begin with a line ---, the fields, and a second line ---")
    data = checked(parse_yaml(parts[1], path), path, required=("name", "version", "kind"), allowed=_FIELDS)
    try:
        kind = as_text(data["kind"], "kind")
        own = {"label": ("labels",), "score": ("range", "thresholds")}.get(kind, ())
        other = [name for name in ("labels", "range", "thresholds") if name in data and name not in own]
        missing = [name for name in own if name not in data]
        if kind in KINDS and (missing or other):
            raise AnachronError(f"of kind {kind} it needs {', '.join(own)}; missing {missing}, out of place {other}")
        return JudgePrompt(
            name=as_text(data["name"], "name"),
            version=as_text(data["version"], "version"),
            kind=kind,
            template=parts[2].strip(),
            labels=as_texts(data["labels"], "labels") if "labels" in data else (),
            limits=_limits(data["range"]) if "range" in data else (0, 100),
            thresholds=_numbers(data["thresholds"], "thresholds") if "thresholds" in data else {},
            extra=as_texts(data["extra"], "extra") if "extra" in data else (),
            parameters=_parameters(data["parameters"]) if "parameters" in data else {},
            digest=digest(text.encode()),
        )
    except AnachronError as error:
        raise AnachronError(f"{path}: {error}") from error


def _enclosed(tag: str, text: str) -> str:
    return f"<{tag}>\n{neutral(text.strip())}\n</{tag}>"


def _limits(value: Any) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise AnachronError(f"range: {value!r}; write [lowest, highest], as [0, 100]")
    return as_number(value[0], "range"), as_number(value[1], "range")


def _numbers(value: Any, what: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise AnachronError(f"{what}: {value!r}; write a mapping, as {{no: 0, yes: 50}}")
    return {name: as_number(number, f"{what}, {name}") for name, number in value.items()}


def _parameters(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise AnachronError(f"parameters: {value!r}; write a mapping of names to texts, an empty one has to be given")
    return dict(value)


def _check(prompt: JudgePrompt) -> None:
    def refuse(what: str) -> AnachronError:
        return AnachronError(f"judge prompt {prompt.name!r}: {what}")

    if prompt.kind not in KINDS:
        raise refuse(f"kind {prompt.kind!r}; use {' or '.join(KINDS)}")
    folded = [word.casefold() for word in (*prompt.words, *prompt.thresholds)]
    if len(set(folded)) < len(folded):
        raise refuse(f"labels, extra values and classes {folded} need to differ, in more than case")
    if any(word != word.strip() or "\n" in word for word in prompt.words):
        raise refuse(f"labels and extra values {prompt.words} need to be one line each, without white space around")
    if prompt.kind == "label" and (len(prompt.labels) < 2 or prompt.thresholds):
        raise refuse(f"{len(prompt.labels)} labels, {len(prompt.thresholds)} thresholds; give two labels or more alone")
    if prompt.kind == "score":
        low, high = prompt.limits
        bounds = list(prompt.thresholds.values())
        if prompt.labels or not low < high:
            raise refuse(f"range {low} to {high}, labels {prompt.labels}; a score has no labels and its range ascends")
        if not bounds or bounds[0] != low or bounds[-1] > high or any(a >= b for a, b in pairwise(bounds)):
            raise refuse(f"thresholds {bounds}; let them ascend from {low:g}, each the lowest score of its class")
    places = _PLACE.findall(prompt.template)
    for name in ("question", "answer"):
        if name in prompt.parameters:
            raise refuse(f"{name!r} is filled with what is judged; call the parameter something else")
    if "answer" not in places:
        raise refuse("its text has no {answer}; put it where the answer goes")
    known = {"question", "answer", *prompt.parameters}
    if unknown := sorted(set(places) - known):
        raise refuse(f"its text has the places {unknown} that nothing fills; known are {sorted(known)}")
    if unused := sorted(set(prompt.parameters) - set(places)):
        raise refuse(f"the parameters {unused} don't occur in its text; drop them")
