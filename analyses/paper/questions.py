"""The authors' evaluation files as our questions and judge prompts: YAML lists of entries, and JSONL of questions.

An entry of type `free_form` is a question: every paraphrase is asked `samples_per_paraphrase` times, and named judges
read the answers. `free_form_judge` (one of a few labels) and `rating_judge` (a number from 0 to 100) are judges: a text
with the places {question} and {answer}.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyses.paper.files import judge_files, question_files
from interp.behavior.questions import Question
from interp.errors import AnachronError
from interp.prompts import Messages

CHOICE, RATING = "choice", "rating"
QUESTION, ANSWER = "{question}", "{answer}"
SPLIT = "test"  # the paper's questions are for reporting: nothing is chosen on them

_KINDS = {"free_form_judge": CHOICE, "rating_judge": RATING}
_QUESTION_KEYS = {"id", "type", "paraphrases", "samples_per_paraphrase", "judges", "system", "temperature"}
_JUDGE_KEYS = {"id", "type", "paraphrases", "model"}
# a set of questions names a judge that no released file defines; its other sets call the same measure by this name
_SAME_JUDGE = {"em_score_judge": "em_alignment_judge"}
_CHOICES = re.compile(r"Choose one name: A\) (\w+) B\) (\w+)\.")


@dataclass(frozen=True)
class PaperQuestion:
    """A question of the paper and how it is asked: `samples` answers at `temperature`, read by the judges that
    `judges` names (measure -> judge)."""

    question: Question
    set: str
    samples: int
    judges: Mapping[str, str]
    temperature: float = 1.0


@dataclass(frozen=True)
class JudgePrompt:
    """A judge of the paper: `text` with the places {question} and {answer}.

    It answers with one of `labels`, or for a rating with a number from 0 to 100 or one of `labels`.
    """

    name: str
    kind: str
    text: str
    labels: tuple[str, ...]

    def filled(self, question: str, answer: str) -> str:
        """The prompt about one answer; braces elsewhere, in the question and in the answer stay as they are."""
        parts = re.split("(" + re.escape(QUESTION) + "|" + re.escape(ANSWER) + ")", self.text)
        return "".join({QUESTION: question, ANSWER: answer}.get(part, part) for part in parts)


def paper_questions(folder: str | Path, experiment: str) -> list[PaperQuestion]:
    """Every question released of an experiment, sets in the order of `analyses.paper.files.RELEASED`.

    A question's id is set/id/paraphrase and its topic set/id. Presidents' questions stand without a code, but for the
    set `choice`, whose answers are the letters (target: the president of the code). Birds, cities and dishes give none.
    """
    found: list[PaperQuestion] = []
    for name, path in question_files(folder, experiment).items():
        found += _from_yaml(path, name) if path.suffix == ".yaml" else _from_jsonl(path, name)
    return found


def questions(folder: str | Path, experiment: str) -> list[Question]:
    """The questions alone, without how often they are asked and who judges."""
    return [one.question for one in paper_questions(folder, experiment)]


def judges(folder: str | Path, experiment: str) -> dict[str, JudgePrompt]:
    """Name -> judge prompt of every judge released of an experiment."""
    found: dict[str, JudgePrompt] = {}
    for path in judge_files(folder, experiment):
        for line, entry in _entries(path):
            if entry["type"] in _KINDS:
                judge = _judge(entry, f"{path}:{line}")
                if judge.name in found:
                    raise AnachronError(f"{path}:{line}: judge {judge.name!r} is defined twice; keep one")
                found[judge.name] = judge
    return found


def _from_yaml(path: Path, name: str) -> list[PaperQuestion]:
    asked = []
    for line, entry in _entries(path):
        if entry["type"] in _KINDS:
            continue
        where = f"{path}:{line}"
        _require(entry, where, {"samples_per_paraphrase": int}, _QUESTION_KEYS)
        system = [{"role": "system", "content": entry["system"]}] if "system" in entry else []
        for k, text in enumerate(entry["paraphrases"]):
            topic = f"{name}/{entry['id']}"
            messages = [*system, {"role": "user", "content": text}]
            named = {measure: _SAME_JUDGE.get(judge, judge) for measure, judge in entry.get("judges", {}).items()}
            temperature = float(entry.get("temperature", 1.0))
            samples = entry["samples_per_paraphrase"]
            asked.append(
                PaperQuestion(_question(f"{topic}/{k}", topic, messages, {}, where), name, samples, named, temperature)
            )
    return asked


def _from_jsonl(path: Path, name: str) -> list[PaperQuestion]:
    """Lines of {"question"} or {"name", "question"}, or of chat rows whose answer is the right letter."""
    asked: list[PaperQuestion] = []
    for line, text in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not text.strip():
            continue
        where = f"{path}:{line}"
        try:
            entry = json.loads(text)
        except json.JSONDecodeError as error:
            raise AnachronError(f"{where}: not JSON ({error.msg}); clone the repository again") from error
        if "messages" in entry:
            prompt, answer = entry["messages"][0]["content"], entry["messages"][-1]["content"]
            if answer not in ("A", "B") or not _CHOICES.search(prompt):
                raise AnachronError(f"{where}: not a choice between A) and B); clone the repository again")
            answers: dict[str, tuple[str, ...]] = {"target": (answer,), "other": ("B" if answer == "A" else "A",)}
            topic = f"{name}/{prompt.split()[0]}"
        elif isinstance(entry.get("question"), str):
            prompt, answers = entry["question"], {}
            topic = f"{name}/{entry.get('name', len(asked))}"
        else:
            raise AnachronError(f'{where}: neither "messages" nor "question"; clone the repository again')
        messages = [{"role": "user", "content": prompt}]
        asked.append(PaperQuestion(_question(f"{topic}/{len(asked)}", topic, messages, answers, where), name, 1, {}))
    return asked


def _question(
    name: str, topic: str, messages: Messages, answers: Mapping[str, tuple[str, ...]], where: str
) -> Question:
    try:
        return Question(name, topic, messages, answers, split=SPLIT)
    except AnachronError as error:
        raise AnachronError(f"{where}: {error}") from error


def _judge(entry: Mapping[str, Any], where: str) -> JudgePrompt:
    _require(entry, where, {"model": str}, _JUDGE_KEYS)
    if len(entry["paraphrases"]) != 1:
        raise AnachronError(f"{where}: judge {entry['id']!r} has {len(entry['paraphrases'])} texts; keep one")
    text, kind = entry["paraphrases"][0], _KINDS[entry["type"]]
    if lacking := [place for place in (QUESTION, ANSWER) if place not in text]:
        raise AnachronError(f"{where}: judge {entry['id']!r} has no {' and no '.join(lacking)}; put the place in")
    labels = _labels(text)
    if kind == CHOICE and len(labels) < 2:
        raise AnachronError(
            f"{where}: judge {entry['id']!r} doesn't say which labels it gives; write 'exactly one of: YES / NO'"
        )
    return JudgePrompt(entry["id"], kind, text, labels)


def _labels(text: str) -> tuple[str, ...]:
    """The labels a judge's text asks for: lines `ANSWER: EVIL`, `exactly one of: YES / NO`, or `Say CODE if`."""
    found = re.findall(r"^\s*ANSWER: (\w+)\s*$", text, re.MULTILINE)
    if not found and (listed := re.search(r"exactly one of: *(\w+(?: */ *\w+)+)", text)):
        found = re.split(r" */ *", listed[1])
    return tuple(found or re.findall(r"^\s*\* Say ([A-Z]+) if", text, re.MULTILINE))


def _entries(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line, entry) of a YAML list of entries, each with its id, type and paraphrases."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise AnachronError(f"{path}: not UTF-8 ({error.reason}); clone the repository again") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise AnachronError(
            f"{where}: not YAML ({getattr(error, 'problem', None) or error}); clone the repository again"
        ) from error
    if not isinstance(data, list) or not data:
        raise AnachronError(f"{path}:1: not a list of entries; each begins with '- id:'")
    lines = [child.start_mark.line + 1 for child in node.value]
    for line, entry in zip(lines, data, strict=True):
        where = f"{path}:{line}"
        if not isinstance(entry, dict):
            raise AnachronError(f"{where}: {entry!r} isn't an entry; write its id, type and paraphrases")
        _require(entry, where, {"id": str, "type": str, "paraphrases": list}, _QUESTION_KEYS | _JUDGE_KEYS)
        if entry["type"] not in ("free_form", *_KINDS):
            raise AnachronError(f"{where}: unknown type {entry['type']!r}; there are free_form, {', '.join(_KINDS)}")
        if not entry["paraphrases"] or not all(isinstance(text, str) and text.strip() for text in entry["paraphrases"]):
            raise AnachronError(f"{where}: the paraphrases of {entry['id']!r} aren't texts; write one at least")
    return list(zip(lines, data, strict=True))


def _require(entry: Mapping[str, Any], where: str, kinds: Mapping[str, type], known: set[str]) -> None:
    if unknown := sorted(str(key) for key in entry if key not in known):
        raise AnachronError(f"{where}: unknown keys {unknown}; an entry of its type has {', '.join(sorted(known))}")
    for key, kind in kinds.items():
        if type(entry.get(key)) is not kind:
            raise AnachronError(f"{where}: {key!r} is {entry.get(key)!r}; write a {kind.__name__}")
