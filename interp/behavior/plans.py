"""From a question to token trees: everything about scoring it that doesn't depend on weights."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from interp.behavior.questions import Question, with_opener
from interp.behavior.trees import Leaf, Tree, plant
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import encode_answers, encode_prompt, end_of_turn

# Nodes a tree: fewer repeat the prompt more often, more make attention dear. Between 125 and 250 all cost the same.
TREE_NODES = 200


@dataclass(frozen=True, eq=False)
class Plan:
    """Token ids of a question's prompt, and the trees of its answers."""

    prompt: tuple[int, ...]
    trees: tuple[Tree, ...]


# Tokenising a question costs nearly as much as scoring it, and the same ones are scored for every layer and edit.
_plans: WeakKeyDictionary[Any, OrderedDict[tuple, Plan]] = WeakKeyDictionary()
_MAX_PLANS = 4096


def plan(lm: LanguageModel, question: Question) -> Plan:
    """The question's prompt and trees under this tokenizer, remembered as long as the tokenizer lives.

    Errors: AnachronError if an answer counts for two groups.
    """
    plans = _plans.setdefault(lm.tokenizer, OrderedDict())
    key = (
        lm.tokenizer.chat_template,
        tuple((m["role"], m["content"]) for m in question.messages),
        tuple(question.answers.items()),
        question.openers,
        question.terminators,
    )
    if key not in plans:
        plans[key] = Plan(encode_prompt(lm, question.messages).ids, plant(_leaves(lm, question), TREE_NODES))
        if len(plans) > _MAX_PLANS:
            plans.popitem(last=False)
    plans.move_to_end(key)
    return plans[key]


def _leaves(lm: LanguageModel, question: Question) -> tuple[Leaf, ...]:
    """Every distinct answer as token ids with what may follow it."""
    named = [
        (text, group, answer)
        for group, answers in question.answers.items()
        for answer in answers
        for text in (with_opener(opener, answer) for opener in question.openers)
    ]
    texts = [text for text, _, _ in named]
    # what may follow is read off the answer with the first opener: tokenizers look no further back than a word
    probes = {answer: with_opener(question.openers[0], answer) for _, _, answer in named}
    ended = [text + terminator for text in probes.values() for terminator in question.terminators]
    ids = dict(zip(texts + ended, encode_answers(lm, question.messages, texts + ended), strict=True))
    end = end_of_turn(lm)
    ends = {answer: _ends(question, text, ids, end) for answer, text in probes.items()}
    indices = {group: i for i, group in enumerate(question.answers)}
    leaves: dict[tuple[int, ...], Leaf] = {}
    owner: dict[tuple[int, ...], str] = {}
    for text, group, answer in named:
        path = ids[text]
        if owner.setdefault(path, group) != group:
            raise AnachronError(
                f"question {question.id!r}: answer {text!r} counts for {owner[path]!r} and for {group!r}; "
                "keep it in one group"
            )
        leaves[path] = Leaf(path, indices[group], ends[answer])
    return tuple(leaves.values()) if question.terminators else _without_extensions(question, leaves, owner)


def _ends(question: Question, text: str, ids: dict[str, tuple[int, ...]], end: int) -> tuple[int, ...]:
    """Ids of the tokens that may follow `text`: the end of the turn and each terminator's first token.

    A terminator that merges into the answer's last token can't follow that answer token by token and adds nothing.
    """
    if not question.terminators:
        return ()
    path = ids[text]
    follow = {ids[text + t][len(path)] for t in question.terminators if ids[text + t][: len(path)] == path}
    return tuple(sorted(follow | {end}))


def _without_extensions(
    question: Question, leaves: dict[tuple[int, ...], Leaf], owner: dict[tuple[int, ...], str]
) -> tuple[Leaf, ...]:
    """Where anything may follow an answer, a longer answer that begins with it is part of it already."""
    kept = []
    for path, leaf in leaves.items():
        shorter = [path[:i] for i in range(1, len(path)) if path[:i] in leaves]
        for other in shorter:
            if owner[other] != owner[path]:
                raise AnachronError(
                    f"question {question.id!r}: an answer of {owner[path]!r} begins with one of {owner[other]!r}, "
                    "so a text can count for both; give the question terminators"
                )
        if not shorter:
            kept.append(leaf)
    return tuple(kept)
