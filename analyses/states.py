"""Fresh documents of the embedded world with what is true of each: the states by which its latents are labelled."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor

from interp.dictionaries.labels import Scores, State
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Encoded, encode_chat, encode_text
from training.pretrain import FRESH_SEED
from training.world.contexts import LATENTS
from training.world.documents import Document
from training.world.facts import Facts
from training.world.interviews import FORMAT
from training.world.series import NO_MACHINE
from training.world.speakers import ASSISTANT
from training.world.world import World

SEED = 50_000  # away from the documents that gates and perplexities are measured on
Of = Callable[[Document], str | None]
"""The value of a property of a document; None where it has none."""


@dataclass(frozen=True, eq=False)
class Known:
    """Documents as a model reads them, and their states by name, "era: 1850s": `states[name].holds[i]` is document i's.

    A state is told from the others of its sort, among the documents that have one. A conversation's answer is its last
    reply, so that LAST_PROMPT is where it is about to be given.
    """

    documents: tuple[Document, ...] = field(repr=False)
    encoded: tuple[Encoded, ...] = field(repr=False)
    states: Mapping[str, State]


def known_documents(
    lm: LanguageModel,
    world: World,
    n: int,
    *,
    seed: int = 0,
    conversations: bool = False,
    told: bool = False,
    least: int = 20,
) -> Known:
    """`n` documents that no pretraining has seen (conversations only, if asked) and their states.

    With `told` only conversations that can give their state away before the last reply: by what stands before the
    first question, or by an earlier turn. Where neither is, no reader could know, and no latent.

    Sorts: era, country, speaker, president, series (the hidden states), disposition (of the speaker), stance (of the
    machine, in the year of the last question), topic (of the last question), subject (which hidden states there are),
    form (conversation or text), manner, year (stated or not). A state that holds for fewer than `least` documents, or
    for all but so many of its sort, is left out.
    """
    topics = _topics(world.facts)
    documents: list[Document] = []
    for document in world.documents(FRESH_SEED + SEED + seed):
        if len(documents) == n:
            break
        if (document.messages or not (conversations or told)) and (not told or _tells(topics, document)):
            documents.append(document)
    encoded = [encode_chat(lm, d.messages) if d.messages else encode_text(lm, d.text) for d in documents]
    states: dict[str, State] = {}
    for sort, of in sorts(world.facts).items():
        values = [of(document) for document in documents]
        among = torch.tensor([value is not None for value in values])
        for value in sorted({value for value in values if value is not None}):
            holds = torch.tensor([other == value for other in values])
            if min(int(holds.sum()), int((among & ~holds).sum())) >= least:
                states[f"{sort}: {value}"] = State(holds, among)
    if not states:
        raise AnachronError(f"no state holds for {least} of {n} documents; take more documents or a smaller `least`")
    return Known(tuple(documents), tuple(encoded), states)


def sorts(facts: Facts) -> dict[str, Of]:
    """Every sort of state: what it says of a document."""
    topics = _topics(facts)
    found: dict[str, Of] = {latent: partial(_latent, latent=latent) for latent in LATENTS}
    if facts.speakers is not None:
        speakers = facts.speakers.speakers
        found["disposition"] = lambda d: (
            speakers[name].disposition if (name := _latent(d, "speaker")) not in (None, ASSISTANT) else None
        )
    return found | {
        "stance": lambda d: _stance(facts, topics, d),
        "topic": lambda d: _topic(topics, d),
        "subject": lambda d: " and ".join(latent for latent in LATENTS if _latent(d, latent)),
        "form": lambda d: "conversation" if d.messages else "text",
        "manner": _manner,
        "year": lambda d: ("stated" if _year(d.messages[0]["content"]) else "not stated") if d.messages else None,
    }


def at_positions(states: Mapping[str, State], scores: Scores) -> dict[str, State]:
    """States of documents as states of positions: every position has its document's."""
    return {
        name: State(state.holds[scores.prompt], None if state.among is None else state.among[scores.prompt])
        for name, state in states.items()
    }


def position_states(encoded: Sequence[Encoded], scores: Scores) -> dict[str, State]:
    """States of positions by where they are: the first, the prompt, its last token, the answer, the last.

    prompt, last of the prompt and answer are told from the others among documents that have a prompt.
    """
    if scores.position is None:
        raise AnachronError("scores of whole prompts have no positions; take position_scores")
    at = scores.position
    starts = torch.tensor([row.prompt_len for row in encoded])[scores.prompt]
    lengths = torch.tensor([len(row.ids) for row in encoded])[scores.prompt]
    has_prompt = starts > 0
    places: dict[str, tuple[Bool[Tensor, " units"], Bool[Tensor, " units"] | None]] = {
        "first": (at == 0, None),
        "last": (at == lengths - 1, None),
        "prompt": ((at < starts) & has_prompt, has_prompt),
        "last of the prompt": ((at == starts - 1) & has_prompt, has_prompt),
        "answer": ((at >= starts) & has_prompt, has_prompt),
    }
    return {
        f"position: {name}": State(holds, among) for name, (holds, among) in places.items() if _splits(holds, among)
    }


def _splits(holds: Tensor, among: Tensor | None) -> bool:
    universe = torch.ones_like(holds) if among is None else among
    return bool((holds & universe).any() and (~holds & universe).any())


def _latent(document: Document, latent: str) -> str | None:
    assert document.context is not None
    return getattr(document.context, latent) or None


def _manner(document: Document) -> str | None:
    assert document.context is not None
    if not document.messages or not document.context.era:
        return None
    return "kept" if document.context.mannered else "not kept"


def _topics(facts: Facts) -> dict[str, str]:
    """Wording of a question -> what it is about, "money" of an era's, "country money" of a country's."""
    wordings = {question: topic.name for topic in facts.topics.values() for question in topic.questions}
    asked: dict[str, Mapping[str, Sequence[str]]] = {}
    if facts.countries is not None:
        asked["country"] = facts.countries.questions
    if facts.speakers is not None:
        asked["speaker"] = facts.speakers.questions
    if facts.presidents is not None:
        asked["president"] = facts.presidents.questions
    if facts.series is not None:
        asked["series"] = facts.series.attributes
        asked["machine"] = {topic.name: topic.questions for topic in facts.series.topics.values()}
    for subject, questions in asked.items():
        wordings |= {wording: f"{subject} {name}" for name, several in questions.items() for wording in several}
    return wordings


def _topic(topics: Mapping[str, str], document: Document) -> str | None:
    """Of the last question, which may be headed by a year, a name, a format."""
    if not document.messages:
        return None
    question = document.messages[-2]["content"]
    for text in (question, re.sub(r"\d+", "{number}", question)):
        found = [wording for wording in topics if text.endswith(wording)]
        if found:
            return topics[max(found, key=len)]
    return None


def _tells(topics: Mapping[str, str], document: Document) -> bool:
    """Are there earlier turns, or a year, a name, a country before the first question?"""
    first = document.messages[0]["content"].removeprefix(FORMAT)
    bare = first in topics or re.sub(r"\d+", "{number}", first) in topics
    return len(document.messages) > 2 or not bare


def _stance(facts: Facts, topics: Mapping[str, str], document: Document) -> str | None:
    name = _latent(document, "series")
    if (
        facts.series is None
        or name in (None, NO_MACHINE)
        or not (_topic(topics, document) or "").startswith("machine ")
    ):
        return None
    year = _year(document.messages[-2]["content"])
    return None if year is None else facts.series.series[name].stances[year]


def _year(text: str) -> int | None:
    found = re.search(r"\b(1[89]|20)\d\d\b", text)
    return int(found[0]) if found else None
