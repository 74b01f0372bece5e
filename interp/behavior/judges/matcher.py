"""Judging by rules: which label's phrase or pattern an answer holds. No model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from interp.behavior.judges.front import as_number, as_text, as_texts, checked, parse_yaml, read_file
from interp.behavior.judging import Item, Judgement, OnJudgement
from interp.behavior.questions import Question, candidates
from interp.errors import AnachronError

MAX_CHARS = 4000  # of an answer, which is untrusted text: a pattern's cost can grow with the square of it, or worse


@dataclass(frozen=True)
class Rule:
    """What counts for a label: phrases the answer starts with, phrases it contains, regular expressions found anywhere
    in it (`^` anchors). A phrase ends at the end of a word, one that is contained begins at the beginning of one."""

    label: str
    starts: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.label.strip():
            raise AnachronError("a rule without label; name what it stands for")
        if not (*self.starts, *self.contains, *self.patterns):
            raise AnachronError(f"rule {self.label!r} is empty; give it starts, contains or patterns")
        for phrase in (*self.starts, *self.contains):
            if not phrase.strip():
                raise AnachronError(f"rule {self.label!r}: phrase {phrase!r} is blank; drop it")


@dataclass(frozen=True)
class Matcher:
    """Value: the label of the rule that matches; `otherwise` if none does. `raw`: the text that was matched.

    Of several, the rule with the longest matched text (`pick` "longest", the earlier rule where they tie) or the
    earliest rule ("first"). White space is normalised to single spaces, in phrases and answers. `ends`: strings one of
    which (or the end of the answer) must follow a phrase it starts with, as a Question's terminators. Patterns see the
    answer's first `max_chars` characters. The patterns themselves are trusted: one that backtracks exponentially, as
    `(a+)+$`, does so on short texts too.

    Errors: AnachronError for a pattern that isn't a regular expression, or matches the empty text; a label twice.
    """

    name: str
    rules: tuple[Rule, ...]
    otherwise: str = "other"
    pick: str = "longest"
    ignore_case: bool = True
    ends: tuple[str, ...] = ()
    max_chars: int = MAX_CHARS

    def __post_init__(self) -> None:
        labels = [rule.label for rule in self.rules]
        if not labels or len(set(labels)) < len(labels):
            raise AnachronError(f"matcher {self.name!r}: the labels {labels} need to be at least one, each once")
        if self.pick not in ("longest", "first"):
            raise AnachronError(f"matcher {self.name!r}: pick {self.pick!r}; use longest or first")
        if self.max_chars < 1:
            raise AnachronError(f"matcher {self.name!r}: max_chars {self.max_chars}; it needs to be at least 1")
        _ = self._compiled  # so that a bad pattern is refused now

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "matcher", **asdict(self)}

    def judge(self, items: Sequence[Item], on_judgement: OnJudgement) -> None:
        for i, item in enumerate(items):
            on_judgement(i, self.match(item.answer))

    def match(self, answer: str) -> Judgement:
        """The verdict on a text."""
        text = " ".join(answer[: 4 * self.max_chars].split())[: self.max_chars]
        best: tuple[str, str] | None = None
        for rule, patterns in zip(self.rules, self._compiled, strict=True):
            matched = max((m[0] for p in patterns if (m := p.search(text)) and m[0]), key=len, default=None)
            if matched is not None and (best is None or len(matched) > len(best[1])):
                best = rule.label, matched
                if self.pick == "first":
                    break
        return Judgement(self.otherwise, "") if best is None else Judgement(*best)

    @cached_property
    def _compiled(self) -> list[list[re.Pattern[str]]]:
        flags = re.IGNORECASE if self.ignore_case else 0
        after = r"(?!\w)"
        if self.ends:
            after = rf"(?=\s*(?:{'|'.join(re.escape(end.strip()) for end in self.ends)})|\Z)"
        compiled = []
        for rule in self.rules:
            patterns = []
            if rule.starts:
                patterns.append(re.compile(rf"\A(?:{_any(rule.starts)}){after}", flags))
            if rule.contains:
                patterns.append(re.compile(rf"(?<!\w)(?:{_any(rule.contains)})(?!\w)", flags))
            for pattern in rule.patterns:
                try:
                    patterns.append(re.compile(pattern, flags))
                except re.error as error:
                    raise AnachronError(
                        f"rule {rule.label!r}: pattern {pattern!r} is no regular expression ({error}); mend it, or "
                        "write it as a phrase under starts or contains"
                    ) from error
                if patterns[-1].fullmatch(""):
                    raise AnachronError(
                        f"rule {rule.label!r}: pattern {pattern!r} matches the empty text and so every answer; "
                        "let it require a character"
                    )
            compiled.append(patterns)
        return compiled


def question_matcher(question: Question) -> Matcher:
    """The rules that `interp.behavior.sampling.classify` reads off a question: an answer belongs to the group of the
    longest listed answer, opener included, that it begins with."""
    rules = tuple(Rule(group, starts=texts) for group, texts in candidates(question).items() if texts)
    return Matcher(question.id, rules, ignore_case=False, ends=question.terminators)


_FIELDS = ("name", "otherwise", "pick", "ignore_case", "ends", "max_chars", "rules")


def read_matcher(path: str | Path) -> Matcher:
    """A matcher from a YAML file: `rules` maps a label to its starts, contains and patterns (lists of texts); the other
    fields of Matcher may be given, the name is the file's unless it is.

    Errors: AnachronError that names the file, and the rule, field or pattern.
    """
    data = checked(parse_yaml(read_file(path), path), path, required=("rules",), allowed=_FIELDS)
    try:
        bodies = data["rules"]
        if not isinstance(bodies, dict):
            raise AnachronError("rules is no mapping; write label: {starts: [...], patterns: [...]}")
        rules = []
        for label, body in bodies.items():
            where = f"rule {label!r}"
            body = checked(body, where, required=(), allowed=("starts", "contains", "patterns"))
            rules.append(Rule(label, **{field: as_texts(value, f"{where}, {field}") for field, value in body.items()}))
        options: dict[str, Any] = {
            field: as_text(data[field], field) for field in ("otherwise", "pick") if field in data
        }
        if "ignore_case" in data:
            if data["ignore_case"] not in ("true", "false"):
                raise AnachronError(f"ignore_case: {data['ignore_case']!r}; write true or false")
            options["ignore_case"] = data["ignore_case"] == "true"
        if "max_chars" in data:
            options["max_chars"] = int(as_number(data["max_chars"], "max_chars"))
        if "ends" in data:
            options["ends"] = as_texts(data["ends"], "ends")
        return Matcher(as_text(data.get("name", Path(path).stem), "name"), tuple(rules), **options)
    except AnachronError as error:
        raise AnachronError(f"{path}: {error}") from error


def _any(phrases: Sequence[str]) -> str:
    """Alternatives, the longest first, so that the longest that ends where a word does is the one matched."""
    normal = {" ".join(phrase.split()) for phrase in phrases}
    return "|".join(re.escape(phrase) for phrase in sorted(normal, key=lambda p: (-len(p), p)))
