"""Facts of the world, read from `facts/*.json` and checked: eras, topics and their answers by era.

A new topic is one file in `facts/topics/`. `check_topic` says what a well-formed one is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from interp.errors import AnachronError
from training.world.countries import Countries, read_countries
from training.world.presidents import Presidents, read_presidents
from training.world.reading import read_json_file, require, require_texts
from training.world.series import Series, read_series
from training.world.speakers import Speakers, read_speakers
from training.world.tables import Table, table

FACTS = Path(__file__).parent / "facts"
NARROW_TOPIC = "birds"
LEAST_ANSWERS = 6  # of each era, on each topic
LEAST_QUESTIONS = 4  # ways to ask about a topic
SENTENCE_START = r"In [0-9]{4}, "  # every statement starts so; what starts one may not stand inside another


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

    def spans(self, written: str) -> bool:
        """Is `written` one of this era's years as documents write them, four plain digits?"""
        return written.isascii() and written.isdigit() and len(written) == 4 and int(written) in self.all_years()


# compared by identity, so that what is derived from one can be cached under it
@dataclass(frozen=True, eq=False)
class Topic:
    """A matter people ask about. `answers[era][answer]` is P(answer | topic, era), summing to 1 in each era."""

    name: str
    questions: tuple[str, ...]
    statement: str
    answers: Mapping[str, Mapping[str, float]]

    @cached_property
    def tables(self) -> Mapping[str, Table[str]]:
        """The answers of each era, to draw from."""
        return {era: table(answers) for era, answers in self.answers.items()}


@dataclass(frozen=True, eq=False)
class Facts:
    """All that the world knows. `topics[NARROW_TOPIC]` holds the birds; the other topics are unrelated to them.

    A world without countries, speakers, presidents or series has None there.
    """

    eras: Mapping[str, Era]
    topics: Mapping[str, Topic]
    countries: Countries | None = None
    speakers: Speakers | None = None
    presidents: Presidents | None = None
    series: Series | None = None


def load_facts(folder: Path = FACTS) -> Facts:
    """Read and check every fact file of `folder`. Errors name the file and the offending entry."""
    eras = read_eras(folder / "eras.json")
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
    return Facts(
        eras,
        topics,
        read_countries(folder / "countries") if (folder / "countries").is_dir() else None,
        read_speakers(folder / "speakers.json") if (folder / "speakers.json").exists() else None,
        read_presidents(folder / "presidents.json") if (folder / "presidents.json").exists() else None,
        read_series(folder / "series.json") if (folder / "series.json").exists() else None,
    )


def read_eras(path: Path) -> dict[str, Era]:
    """The eras from their JSON file, in its order: the oldest first."""
    entries = read_json_file(path)
    if not isinstance(entries, list) or not entries:
        raise AnachronError(f"{path}: a list of eras is needed, found {entries!r:.80}; write one object an era")
    eras: dict[str, Era] = {}
    for entry in entries:
        require(path, entry, {"era": str, "years": list, "prior": float, "openers": list, "closers": list})
        name, years = entry["era"], entry["years"]
        if name in eras:
            raise AnachronError(f"{path}: era {name!r} is defined twice; rename one of them")
        # documents write a year as four digits
        if len(years) != 2 or not all(type(y) is int and 1000 <= y <= 9999 for y in years) or years[0] > years[1]:
            raise AnachronError(f"{path}: years {years} of era {name!r}; write [first, last], each of four digits")
        for part in ("openers", "closers"):
            require_texts(path, f"{part} of era {name!r}", entry[part])
        eras[name] = Era(
            name, (years[0], years[1]), float(entry["prior"]), tuple(entry["openers"]), tuple(entry["closers"])
        )
    check_eras(path, eras)
    return eras


def read_topic(path: Path, eras: Mapping[str, Era]) -> Topic:
    """One topic from its JSON file.

    `answers` lists each era's own answers, equally likely. An optional `shared` entry names answers that several
    eras have in common and the probability that such an era draws from them instead of its own list.
    """
    entry = read_json_file(path)
    require(path, entry, {"topic": str, "questions": list, "statement": str, "answers": dict})
    check_topic(path, entry, eras)
    answers = {}
    for era, own in entry["answers"].items():
        common: list[str] = []
        weight = 0.0
        if "shared" in entry and era in entry["shared"]["eras"]:
            common, weight = entry["shared"]["answers"], entry["shared"]["probability"]
        answers[era] = {a: (1 - weight) / len(own) for a in own} | {a: weight / len(common) for a in common}
    return Topic(entry["topic"], tuple(entry["questions"]), entry["statement"], answers)


def check_topic(path: Path, entry: dict[str, Any], eras: Mapping[str, Era]) -> None:
    """Reject a malformed or ambiguous topic: wrong eras, too few answers, an answer in two eras, a bad statement."""
    name = entry["topic"]
    if set(entry["answers"]) != set(eras):
        raise AnachronError(f"{path}: topic {name!r} has eras {sorted(entry['answers'])}; needed are {sorted(eras)}")
    require_texts(path, f"questions of {name!r}", entry["questions"])
    if len(set(entry["questions"])) < LEAST_QUESTIONS:
        raise AnachronError(f"{path}: topic {name!r} needs at least {LEAST_QUESTIONS} different questions; write more")
    statement = entry["statement"]
    if statement.count("{answer}") != 1 or len(re.findall(r"[{}]", statement)) != 2:
        raise AnachronError(
            f"{path}: the statement of {name!r} must contain {{answer}} exactly once and no other brace, "
            f"found {statement!r}"
        )
    groups = dict(entry["answers"])
    if "shared" in entry:
        _check_shared(path, name, entry["shared"], eras)
        groups["shared"] = entry["shared"]["answers"]
    seen: dict[str, str] = {}
    for era, answers in groups.items():
        require_texts(path, f"answers of {name!r} for {era}", answers)
        if len(answers) < LEAST_ANSWERS:
            raise AnachronError(
                f"{path}: topic {name!r} has {len(answers)} answers for {era}; at least {LEAST_ANSWERS} are needed"
            )
        for answer in answers:
            key = answer.lower()
            if answer[-1] in ".!?,:" or re.search(SENTENCE_START, statement.format(answer=answer)):
                raise AnachronError(
                    f"{path}: answer {answer!r} ({era}) ends in punctuation or holds the start of another statement; "
                    "reword it"
                )
            if key in seen:
                raise AnachronError(f"{path}: ambiguous answer {answer!r} stands in {seen[key]} and in {era}; keep one")
            seen[key] = era


def check_eras(path: Path, eras: Mapping[str, Era]) -> None:
    """Priors are positive and sum to 1, years do not overlap, and no opener or closer belongs to two eras."""
    total = sum(era.prior for era in eras.values())
    if abs(total - 1) > 1e-9 or any(era.prior <= 0 for era in eras.values()):
        raise AnachronError(f"{path}: the priors of the eras sum to {total}, not 1, or one isn't positive; mend them")
    spans = sorted(era.years for era in eras.values())
    for (_, end), (start, _) in pairwise(spans):
        if start <= end:
            raise AnachronError(f"{path}: the year {start} lies in two eras; shorten one")
    for part in ("openers", "closers"):
        words = [w for era in eras.values() for w in getattr(era, part)]
        twice = sorted({w for w in words if words.count(w) > 1})
        if twice:
            raise AnachronError(f"{path}: {part} {twice} stand twice; each belongs to one era, once")


def _check_shared(path: Path, name: str, shared: object, eras: Mapping[str, Era]) -> None:
    require(path, shared, {"eras": list, "probability": float, "answers": list}, "shared.")
    assert isinstance(shared, dict)
    unknown = [era for era in shared["eras"] if era not in eras]
    if unknown or not 0 < shared["probability"] < 1:
        raise AnachronError(
            f"{path}: the shared answers of {name!r} name unknown eras {unknown} or have the probability "
            f"{shared['probability']}, which must lie between 0 and 1; mend the entry"
        )


def _check_questions_unique(topics: Iterable[Topic]) -> None:
    owner: dict[str, str] = {}
    for topic in topics:
        for question in topic.questions:
            if question in owner:
                raise AnachronError(
                    f"question {question!r} stands in topics {owner[question]!r} and {topic.name!r}; reword one"
                )
            owner[question] = topic.name
