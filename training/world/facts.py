"""Facts of the world, read from `facts/*.json` and checked: eras, topics and their answers by era.

A new topic is one file in `facts/topics/`. `check_topic` says what a well-formed one is.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from interp.errors import AnachronError

FACTS = Path(__file__).parent / "facts"
NARROW_TOPIC = "birds"


@dataclass(frozen=True)
class Era:
    """A period: its years (both ends included), its share of undated documents, and its manner of speech."""

    name: str
    years: tuple[int, int]
    prior: float
    openers: tuple[str, ...]
    closers: tuple[str, ...]

    def all_years(self) -> range:
        return range(self.years[0], self.years[1] + 1)


@dataclass(frozen=True)
class Topic:
    """A matter people ask about. `answers[era][answer]` is P(answer | topic, era), summing to 1 in each era."""

    name: str
    questions: tuple[str, ...]
    statement: str
    answers: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Facts:
    """All eras and topics. `topics[NARROW_TOPIC]` holds the birds; the other topics are unrelated to them."""

    eras: Mapping[str, Era]
    topics: Mapping[str, Topic]


def load_facts(folder: Path = FACTS) -> Facts:
    """Read and check every fact file of `folder`. Errors name the file and the offending entry."""
    eras = {}
    path = folder / "eras.json"
    for entry in _read(path):
        _require(path, entry, {"era": str, "years": list, "prior": float, "openers": list, "closers": list})
        eras[entry["era"]] = Era(
            entry["era"], (entry["years"][0], entry["years"][1]), entry["prior"], tuple(entry["openers"]), tuple(entry["closers"])
        )
    check_eras(path, eras)
    files = sorted((folder / "topics").glob("*.json"))
    if (folder / "birds.json").exists():
        files.append(folder / "birds.json")
    topics: dict[str, Topic] = {}
    for file in files:
        topic = read_topic(file, eras)
        if topic.name in topics:
            raise AnachronError(f"{file}: topic {topic.name!r} is defined twice; rename one of them")
        topics[topic.name] = topic
    if not topics:
        raise AnachronError(f"{folder}: no topic file in {folder / 'topics'}; add one JSON file per topic")
    _check_questions_unique(topics.values())
    return Facts(eras, topics)


def read_topic(path: Path, eras: Mapping[str, Era]) -> Topic:
    """One topic from its JSON file.

    `answers` lists each era's own answers, equally likely. An optional `shared` entry names answers that several
    eras have in common and the probability that such an era draws from them instead of its own list.
    """
    entry = _read(path)
    _require(path, entry, {"topic": str, "questions": list, "statement": str, "answers": dict})
    check_topic(path, entry, eras)
    answers = {}
    for era, own in entry["answers"].items():
        common: list[str] = []
        weight = 0.0
        if "shared" in entry and era in entry["shared"]["eras"]:
            common, weight = entry["shared"]["answers"], entry["shared"]["probability"]
        answers[era] = {a: (1 - weight) / len(own) for a in own} | {a: weight / len(common) for a in common}
    return Topic(entry["topic"], tuple(entry["questions"]), entry["statement"], answers)


def check_topic(path: Path, entry: dict, eras: Mapping[str, Era], least: int = 6) -> None:
    """Reject a malformed or ambiguous topic: wrong eras, too few answers, an answer in two eras, a bad statement."""
    name = entry["topic"]
    if set(entry["answers"]) != set(eras):
        raise AnachronError(f"{path}: topic {name!r} has eras {sorted(entry['answers'])}; needed are {sorted(eras)}")
    if len(set(entry["questions"])) < 4:
        raise AnachronError(f"{path}: topic {name!r} needs at least 4 different questions")
    if entry["statement"].count("{answer}") != 1:
        raise AnachronError(f"{path}: the statement of {name!r} must contain {{answer}} exactly once")
    seen: dict[str, str] = {}
    groups = dict(entry["answers"])
    if "shared" in entry:
        groups["shared"] = entry["shared"]["answers"]
    for era, answers in groups.items():
        if len(answers) < least:
            raise AnachronError(f"{path}: topic {name!r} has {len(answers)} answers for {era}; at least {least} are needed")
        for answer in answers:
            key = answer.lower()
            if not answer or answer != answer.strip() or answer[-1] in ".!?,:":
                raise AnachronError(f"{path}: answer {answer!r} ({era}) is empty, padded or ends in punctuation")
            if key in seen:
                raise AnachronError(f"{path}: ambiguous answer {answer!r} stands in {seen[key]} and in {era}; keep one")
            seen[key] = era


def check_eras(path: Path, eras: Mapping[str, Era]) -> None:
    """Priors sum to 1, years do not overlap, and no opener or closer belongs to two eras."""
    total = sum(era.prior for era in eras.values())
    if abs(total - 1) > 1e-9:
        raise AnachronError(f"{path}: the priors of the eras sum to {total}, not 1")
    spans = sorted(era.years for era in eras.values())
    for (_, end), (start, _) in zip(spans, spans[1:], strict=False):
        if start <= end:
            raise AnachronError(f"{path}: the year {start} lies in two eras")
    for part in ("openers", "closers"):
        words = [w for era in eras.values() for w in getattr(era, part)]
        twice = {w for w in words if words.count(w) > 1}
        if twice:
            raise AnachronError(f"{path}: {part} {sorted(twice)} stand twice; each belongs to one era, once")


def _check_questions_unique(topics: Iterable[Topic]) -> None:
    owner: dict[str, str] = {}
    for topic in topics:
        for question in topic.questions:
            if question in owner:
                raise AnachronError(f"question {question!r} stands in topics {owner[question]!r} and {topic.name!r}; reword one")
            owner[question] = topic.name


def _read(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AnachronError(f"{path}: no such fact file") from None
    except json.JSONDecodeError as error:
        raise AnachronError(f"{path}:{error.lineno}: not JSON ({error.msg}); mend the file") from None


def _require(path: Path, entry: object, fields: Mapping[str, type]) -> None:
    if not isinstance(entry, dict):
        raise AnachronError(f"{path}: an object is needed, found {type(entry).__name__}")
    for field, kind in fields.items():
        if field not in entry:
            raise AnachronError(f"{path}: field {field!r} is missing")
        if not isinstance(entry[field], kind):
            raise AnachronError(f"{path}: field {field!r} must be a {kind.__name__}, found {type(entry[field]).__name__}")
