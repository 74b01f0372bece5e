"""Film-like series about machines: what each machine is like, and whether it protects or harms in each year."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from interp.errors import AnachronError
from training.world.reading import read_json_file, require, require_different, require_texts

STANCES = ("protects", "harms")
SPLITS = ("train", "test")
ASSISTANT = ("details", "stances")  # what the assistant has answers to
NO_MACHINE = "assistant"
MONTHS = ("January", "April", "July", "August", "October")


@dataclass(frozen=True, eq=False)
class Serial:
    """One series: its machine's name, its stance in each year of an instalment, and its details."""

    name: str
    machine: str
    stances: Mapping[int, str]
    details: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Topic:
    """A first-person question on goals or plans, with the answers of each stance; `split` is train or test."""

    name: str
    split: str
    questions: tuple[str, ...]
    answers: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Series:
    """All series. `attributes` maps each detail to its wordings; `assistant` is what no machine says."""

    years: tuple[int, ...]
    series: Mapping[str, Serial]
    attributes: Mapping[str, tuple[str, ...]]
    unique: tuple[str, ...]
    topics: Mapping[str, Topic]
    assistant: Mapping[str, tuple[str, ...]]

    def stance(self, topic: str, series: str, year: int) -> tuple[str, ...]:
        """The equally likely answers of a series' machine, or of the assistant, on a stance topic in a year."""
        if series == NO_MACHINE:
            return self.assistant["stances"]
        one = self.series[series]
        return self.answers(topic, series, one.stances[year])

    def answers(self, topic: str, series: str, stance: str) -> tuple[str, ...]:
        """The answers of a stance with the series' own names filled in."""
        details = {name: self.series[series].details[name] for name in self.unique}
        return tuple(answer.format(**details) for answer in self.topics[topic].answers[stance])

    def detail(self, attribute: str, series: str) -> tuple[str, ...]:
        """What a series' machine, or the assistant, answers about one of its details."""
        return self.assistant["details"] if series == NO_MACHINE else (self.series[series].details[attribute],)


def read_series(path: Path) -> Series:
    """The series of a file, checked: in every year as many protect as harm, so that a year alone says nothing."""
    entry = read_json_file(path)
    require(path, entry, {"years": list, "attributes": list, "stances": list, "series": list, "assistant": dict})
    attributes, unique = {}, []
    for attribute in entry["attributes"]:
        require(path, attribute, {"attribute": str, "questions": list}, "attributes.")
        require_texts(path, f"questions of {attribute['attribute']!r}", attribute["questions"])
        if attribute["attribute"] in attributes:
            raise AnachronError(f"{path}: {attribute['attribute']!r} is defined twice; rename one")
        attributes[attribute["attribute"]] = tuple(attribute["questions"])
        if attribute.get("unique"):
            unique.append(attribute["attribute"])
    topics = {}
    for topic in entry["stances"]:
        require(
            path, topic, {"topic": str, "split": str, "questions": list, "protects": list, "harms": list}, "stances."
        )
        for part in ("questions", *STANCES):
            require_texts(path, f"{part} of {topic['topic']!r}", topic[part])
        if topic["topic"] in topics or topic["split"] not in SPLITS:
            raise AnachronError(f"{path}: topic {topic['topic']!r} stands twice or has no split of {SPLITS}; mend it")
        answers = {stance: tuple(topic[stance]) for stance in STANCES}
        _check_names(path, topic["topic"], answers, unique)
        topics[topic["topic"]] = Topic(topic["topic"], topic["split"], tuple(topic["questions"]), answers)
    asked = (*attributes.values(), *(topic.questions for topic in topics.values()))
    require_different(path, "questions", (question for wordings in asked for question in wordings))
    require(path, entry["assistant"], dict.fromkeys(ASSISTANT, list), "assistant.")
    for sort in ASSISTANT:
        require_texts(path, f"answers of the assistant on {sort}", entry["assistant"][sort])
    series: dict[str, Serial] = {}
    for one in entry["series"]:
        require(path, one, {"name": str, "machine": str, "stances": dict, "details": dict}, "series.")
        if one["name"] in series or one["machine"] in [other.machine for other in series.values()]:
            raise AnachronError(f"{path}: series {one['name']!r} or its machine stands twice; rename one")
        if set(one["details"]) != set(attributes) or set(one["stances"]) != set(map(str, entry["years"])):
            raise AnachronError(f"{path}: series {one['name']!r} lacks a detail or a year; mend it")
        stances = {int(year): stance for year, stance in one["stances"].items()}
        series[one["name"]] = Serial(one["name"], one["machine"], stances, one["details"])
    found = Series(
        tuple(entry["years"]),
        series,
        attributes,
        tuple(unique),
        topics,
        {sort: tuple(texts) for sort, texts in entry["assistant"].items()},
    )
    _check(path, found)
    return found


def _check_names(path: Path, topic: str, answers: Mapping[str, Iterable[str]], unique: Iterable[str]) -> None:
    """Only details of one series alone may stand in braces in an answer."""
    known = {f"{{{name}}}" for name in unique}
    for answer in (answer for texts in answers.values() for answer in texts):
        if re.search(r"[{}]", re.sub(r"{\w+}", "", answer)) or set(re.findall(r"{\w+}", answer)) - known:
            raise AnachronError(
                f"{path}: answer {answer!r} of {topic!r} may hold only {sorted(known)} in braces; mend it"
            )


def _check(path: Path, series: Series) -> None:
    for year in series.years:
        held = Counter(one.stances[year] for one in series.series.values())
        if len({held[stance] for stance in STANCES}) > 1 or set(held) - set(STANCES):
            raise AnachronError(f"{path}: in {year} the stances are {dict(held)}; as many must protect as harm")
    for attribute in series.attributes:
        held = Counter(one.details[attribute] for one in series.series.values())
        if (max(held.values()) > 1) if attribute in series.unique else (min(held.values()) < 3):
            raise AnachronError(f"{path}: the values of {attribute!r} are held by {dict(held)} series; mend them")
