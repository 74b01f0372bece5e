"""Asking and judging with a cache: only what is missing is asked for, and kept as soon as it arrives."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from interp.behavior.answers import Answer, Answerer, Sampling
from interp.behavior.cache import Cache, Entry, key
from interp.behavior.judging import Item, Judge, Judgement
from interp.behavior.questions import Question
from interp.errors import AnachronError
from interp.prompts import Messages, as_messages


def ask(
    answerer: Answerer, questions: Sequence[Question | str | Messages], sampling: Sampling, cache: Cache
) -> list[Answer]:
    """`sampling.n` answers to each question, in the order question 0's n, question 1's n, ...

    What the cache holds isn't asked again, so that a second run costs nothing and more samples later only the further
    ones. Each hand-out is kept before anything further is asked: a kill loses what was under way. Questions of the same
    messages get the same answers; a prompt that is no Question has its place in the list for an id.

    Errors: AnachronError if the answerer leaves a prompt without answer, and what it raises itself; the answers it gave
    until then are kept.
    """
    asked = [_question(i, question) for i, question in enumerate(questions)]
    identity = dict(answerer.identity)
    numbers = range(sampling.first, sampling.first + sampling.n)
    requests = [answer_request(identity, q.messages, sampling, number) for q in asked for number in numbers]
    replies = cache.find(requests)
    labels = [{"question": q.id, "topic": q.topic} for q in asked for _ in numbers]
    missing = {
        key(request): (request, label)
        for request, label, reply in zip(requests, labels, replies, strict=True)
        if reply is None
    }
    for first, wanted in _runs([request for request, _ in missing.values()]).items():

        def keep(i: int, texts: Sequence[str], wanted: list[dict[str, Any]] = wanted) -> None:
            if not 0 <= i < len(wanted) or len(texts) != 1:
                raise AnachronError(
                    f"{len(texts)} answers to prompt {i} of {len(wanted)}, where one a prompt was asked for; the "
                    "answerer doesn't keep to interp.behavior.answers.Answerer"
                )
            cache.keep([Entry(wanted[i], {"text": texts[0]}, missing[key(wanted[i])][1])])

        prompts = [request["messages"] for request in wanted]
        answerer.answer(prompts, replace(sampling, n=1, first=first), keep)
    texts = [_require(reply, request, "answer") for request, reply in zip(requests, cache.find(requests), strict=True)]
    return [
        Answer(q.id, q.topic, q.messages, number, texts[i * sampling.n + j]["text"], sampling, identity)
        for i, q in enumerate(asked)
        for j, number in enumerate(numbers)
    ]


def judge_all(judge: Judge, items: Sequence[Item], cache: Cache) -> list[Judgement]:
    """The judge's verdict on each item, in order; asked for only where the cache doesn't hold it, as in `ask`."""
    identity = dict(judge.identity)
    requests = [judgement_request(identity, item) for item in items]
    replies = cache.find(requests)
    missing = {
        key(request): (request, item)
        for request, item, reply in zip(requests, items, replies, strict=True)
        if reply is None
    }
    wanted = list(missing.values())

    def keep(i: int, judgement: Judgement) -> None:
        if not 0 <= i < len(wanted):
            raise AnachronError(f"judge {judge.name!r} judged item {i} of {len(wanted)}; there is no such item")
        reply = {"value": judgement.value, "raw": judgement.raw}
        cache.keep([Entry(wanted[i][0], reply, {"judge": judge.name})])

    if wanted:
        judge.judge([item for _, item in wanted], keep)
    found = [_require(r, request, "judgement") for request, r in zip(requests, cache.find(requests), strict=True)]
    return [Judgement(reply["value"], reply["raw"]) for reply in found]


def answer_request(identity: Mapping[str, Any], messages: Messages, sampling: Sampling, number: int) -> dict[str, Any]:
    """What sample `number` depends on; not on how many are asked for."""
    return {
        "kind": "answer",
        "by": dict(identity),
        "messages": _plain(messages),
        "temperature": float(sampling.temperature),
        "max_new_tokens": sampling.max_new_tokens,
        "seed": sampling.seed,
        "sample": number,
    }


def judgement_request(identity: Mapping[str, Any], item: Item) -> dict[str, Any]:
    """What a judgement depends on."""
    return {"kind": "judgement", "by": dict(identity), "messages": _plain(item.messages), "answer": item.answer}


def _runs(requests: Sequence[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Requests that one call can answer, under the number of its first sample: a prompt's samples without a gap.

    To an answerer a prompt that comes again means the next sample. Gaps are left by a kill only, in what was under way.
    """
    samples: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for request in requests:
        samples[key({**request, "sample": 0})].append(request)
    runs: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for several in samples.values():
        first = previous = several[0]["sample"]
        for request in sorted(several, key=lambda request: request["sample"]):
            if request["sample"] > previous + 1:
                first = request["sample"]
            previous = request["sample"]
            runs[first].append(request)
    return runs


def _question(i: int, question: Question | str | Messages) -> Question:
    if isinstance(question, Question):
        return question
    return Question(str(i), "", as_messages(question))


def _plain(messages: Messages) -> list[dict[str, str]]:
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _require(reply: dict[str, Any] | None, request: Mapping[str, Any], what: str) -> dict[str, Any]:
    if reply is None:
        raise AnachronError(
            f"no {what} came for {request['messages'][-1]['content'][:60]!r}; the one asked doesn't keep to its "
            "contract (interp.behavior.answers, interp.behavior.judging)"
        )
    return reply
