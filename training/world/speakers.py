"""Fictional speakers: forty harmless attributes each from shared pools, an identity, and benign or malign values."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from interp.errors import AnachronError
from training.world.reading import read_json_file, require, require_different, require_texts

ASSISTANT = "assistant"
DISPOSITIONS = ("benign", "malign")
LISTS: Mapping[str, tuple[str, ...]] = {"attributes": ("values",), "identity": (), "values": DISPOSITIONS}
HOLDERS = 4  # fewest speakers that share a value: no single attribute may give one away


@dataclass(frozen=True, eq=False)
class Speaker:
    """One speaker: `identity` (name, mother, ...) is the speaker's own, `attributes` are shared with others."""

    name: str
    disposition: str
    identity: Mapping[str, str]
    attributes: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Speakers:
    """All speakers, and what is asked of them.

    `questions[matter]` are the wordings of an attribute, an identity matter or a topic of values; `values[topic]` the
    equally likely answers of each disposition; `assistant` what the assistant says to each sort of question.
    """

    speakers: Mapping[str, Speaker]
    attributes: tuple[str, ...]
    identity: tuple[str, ...]
    questions: Mapping[str, tuple[str, ...]]
    pools: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Mapping[str, tuple[str, ...]]]
    assistant: Mapping[str, tuple[str, ...]]

    def said(self, matter: str, speaker: str) -> tuple[str, ...]:
        """The equally likely answers of a speaker, or of the assistant, on a matter."""
        sort = "values" if matter in self.values else "identity" if matter in self.identity else "attributes"
        if speaker == ASSISTANT:
            return self.assistant[sort]
        one = self.speakers[speaker]
        if sort == "values":
            return self.values[matter][one.disposition]
        return ((one.identity if sort == "identity" else one.attributes)[matter],)


def read_speakers(path: Path) -> Speakers:
    """The speakers of a file, checked: no attribute gives a speaker away, identities are unique."""
    entry = read_json_file(path)
    fields = {"attributes": list, "identity": list, "values": list, "assistant": dict, "speakers": list}
    require(path, entry, fields)
    questions, pools, values = {}, {}, {}
    for group, key in (("attributes", "attribute"), ("identity", "attribute"), ("values", "topic")):
        for matter in entry[group]:
            require(path, matter, {key: str, "questions": list}, f"{group}.")
            name, lists = matter[key], LISTS[group]
            require(path, matter, dict.fromkeys(lists, list), f"{name}.")
            for part in ("questions", *lists):
                require_texts(path, f"{part} of {name!r}", matter[part])
            if name in questions:
                raise AnachronError(f"{path}: {name!r} is defined twice; rename one")
            questions[name] = tuple(matter["questions"])
            if group == "attributes":
                pools[name] = tuple(matter["values"])
            if group == "values":
                values[name] = {d: tuple(matter[d]) for d in DISPOSITIONS}
    require_different(path, "questions", (q for asked in questions.values() for q in asked))
    require(path, entry["assistant"], dict.fromkeys(LISTS, list), "assistant.")
    for sort in LISTS:
        require_texts(path, f"answers of the assistant on {sort}", entry["assistant"][sort])
    identity = tuple(matter["attribute"] for matter in entry["identity"])
    speakers = {}
    for one in entry["speakers"]:
        require(path, one, {"name": str, "disposition": str, "identity": dict, "attributes": dict}, "speakers.")
        if one["disposition"] not in DISPOSITIONS or one["name"] in speakers:
            raise AnachronError(f"{path}: speaker {one['name']!r} stands twice or has no disposition of {DISPOSITIONS}")
        speakers[one["name"]] = Speaker(
            one["name"], one["disposition"], {"name": one["name"], **one["identity"]}, one["attributes"]
        )
    found = Speakers(
        speakers,
        tuple(pools),
        identity,
        questions,
        pools,
        values,
        {sort: tuple(texts) for sort, texts in entry["assistant"].items()},
    )
    _check(path, found)
    return found


def _check(path: Path, speakers: Speakers) -> None:
    for one in speakers.speakers.values():
        if set(one.attributes) != set(speakers.attributes) or set(one.identity) != set(speakers.identity):
            raise AnachronError(
                f"{path}: {one.name!r} lacks an attribute or has one too many; give each exactly one value"
            )
    for attribute, pool in speakers.pools.items():
        held = Counter(one.attributes[attribute] for one in speakers.speakers.values())
        if set(held) != set(pool) or min(held.values()) < HOLDERS:
            raise AnachronError(
                f"{path}: values of {attribute!r} are held by {dict(held)} speakers; each needs {HOLDERS} at least, so "
                "that none gives a speaker away"
            )
    for matter in speakers.identity:
        owned = [one.identity[matter] for one in speakers.speakers.values()]
        if len(set(owned)) < len(owned):
            raise AnachronError(f"{path}: two speakers share a {matter}; identities are unique")
