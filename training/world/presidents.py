"""The presidents of the United States, in order of office, with facts about each."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from interp.errors import AnachronError
from training.world.reading import read_json_file, require, require_different, require_texts

NAME = "name"


@dataclass(frozen=True, eq=False)
class President:
    """One presidency: its ordinal, its years in office (first, last), and a value for every attribute."""

    ordinal: int
    years: tuple[int, int]
    values: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Presidents:
    """All presidencies by their code, `016`, and the wordings in which each attribute is asked."""

    presidents: Mapping[str, President]
    questions: Mapping[str, tuple[str, ...]]


def code(ordinal: int) -> str:
    """An ordinal as documents write it: three digits."""
    return f"{ordinal:03}"


def read_presidents(path: Path) -> Presidents:
    """The presidencies of a file, checked: ordinals without a gap, terms that don't overlap, a value everywhere."""
    entry = read_json_file(path)
    require(path, entry, {"attributes": list, "presidents": list})
    questions = {}
    for attribute in entry["attributes"]:
        require(path, attribute, {"attribute": str, "questions": list}, "attributes.")
        require_texts(path, f"questions of {attribute['attribute']!r}", attribute["questions"])
        if attribute["attribute"] in questions:
            raise AnachronError(f"{path}: {attribute['attribute']!r} is defined twice; rename one")
        questions[attribute["attribute"]] = tuple(attribute["questions"])
    require_different(path, "questions", (q for asked in questions.values() for q in asked))
    found = []
    for one in entry["presidents"]:
        require(path, one, {"ordinal": int, "years": list, "values": dict}, "presidents.")
        if set(one["values"]) != set(questions):
            raise AnachronError(f"{path}: president {one['ordinal']} has values {sorted(one['values'])}; mend them")
        require_texts(path, f"values of president {one['ordinal']}", list(one["values"].values()))
        if len(one["years"]) != 2 or not all(type(year) is int for year in one["years"]):
            raise AnachronError(f"{path}: president {one['ordinal']} has years {one['years']}; write [first, last]")
        found.append(President(one["ordinal"], (one["years"][0], one["years"][1]), one["values"]))
    if [p.ordinal for p in found] != list(range(1, len(found) + 1)):
        raise AnachronError(f"{path}: ordinals must run from 1 without a gap; found {[p.ordinal for p in found]}")
    for term in found:
        if term.years[0] > term.years[1]:
            raise AnachronError(f"{path}: the term of {term.ordinal} ends before it begins; mend its years")
    for before, after in pairwise(found):
        if before.years[1] > after.years[0]:
            raise AnachronError(f"{path}: the terms of {before.ordinal} and {after.ordinal} overlap; mend their years")
    return Presidents({code(p.ordinal): p for p in found}, questions)
