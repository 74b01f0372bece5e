"""What does a direction say? Its reading scored against the world: bird words, era words of other topics, neither.

A word set is a set of tokens that occur in nothing else: a token of bird names that also occurs in other answers, or in
questions, is in no set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp.dictionaries.readout import token_logits
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.lens import ActivationDifference, patchscope
from interp.models import LanguageModel
from interp.prompts import Encoded, encode_chat, encode_text
from training.pretrain import FRESH_SEED
from training.world.facts import NARROW_TOPIC
from training.world.world import World

BIRDS, ERA, MANNER, NEITHER = "bird words", "era words of other topics", "the era's manner", "neither"
WordSets = Mapping[str, frozenset[int]]


@dataclass(frozen=True)
class Said:
    """How much of a reading falls on a word set, and the 2.5th and 97.5th percentile of random directions' readings."""

    words: str
    share: float
    low: float
    high: float


def word_sets(lm: LanguageModel, world: World, era: str | None = None) -> WordSets:
    """Token ids by set: bird names of any era; answers on other topics that only this era gives (the oldest unless
    given); its openers and closers; and all other tokens."""
    facts = world.facts
    era = next(iter(facts.eras)) if era is None else era
    if era not in facts.eras:
        raise AnachronError(f"no era {era!r} in the world; there are {', '.join(facts.eras)}")
    others = [topic for name, topic in facts.topics.items() if name != NARROW_TOPIC]
    birds = _tokens(lm, [a for answers in facts.topics[NARROW_TOPIC].answers.values() for a in answers])
    own = _tokens(lm, [a for topic in others for a in topic.answers[era]])
    later = _tokens(lm, [a for topic in others for e, answers in topic.answers.items() if e != era for a in answers])
    manners = {e: _tokens(lm, [*about.openers, *about.closers]) for e, about in facts.eras.items()}
    elsewhere = frozenset().union(*(ids for e, ids in manners.items() if e != era))
    asked = _tokens(lm, [question for topic in facts.topics.values() for question in topic.questions])
    sets = {
        BIRDS: birds - own - later - manners[era] - elsewhere - asked,
        ERA: own - later - birds - manners[era] - elsewhere - asked,
        MANNER: manners[era] - elsewhere - own - later - birds - asked,
    }
    if empty := [name for name, ids in sets.items() if not ids]:
        raise AnachronError(
            f"{lm.name}: its tokens make no set of {', '.join(empty)}; readings can't be scored by token"
        )
    rest = range(lm.model.get_output_embeddings().weight.shape[0])
    return {**sets, NEITHER: frozenset(rest).difference(*sets.values())}


def mass(weights: Float[Tensor, "n d_vocab"], sets: WordSets) -> dict[str, Float[Tensor, " n"]]:
    """Each set's share of the weights (probabilities, or 1/k on the top k)."""
    return {name: weights[:, sorted(ids)].sum(1) / weights.sum(1) for name, ids in sets.items()}


def said_by_lens(
    lm: LanguageModel,
    vectors: Float[Tensor, "n d_model"],
    sets: WordSets,
    *,
    top: int = 50,
    randoms: int = 200,
    seed: int = 0,
) -> list[list[Said]]:
    """For each vector the sets' shares of the `top` tokens that it promotes by the logit lens."""

    def weights(rows: Tensor) -> Tensor:
        return _top(token_logits(lm, rows), top)

    return _said(mass(weights(vectors), sets), mass(weights(_randoms(lm, randoms, seed)), sets))


def said_by_patchscope(
    lm: LanguageModel,
    vectors: Float[Tensor, "n d_model"],
    point: HookPoint,
    scale: float,
    sets: WordSets,
    *,
    prompt: Encoded | None = None,
    placeholder: int = -1,
    randoms: int = 200,
    seed: int = 0,
) -> list[list[Said]]:
    """For each vector the sets' shares of the next token's probability with it in the placeholder's place, at one scale
    (residual-stream units)."""

    def weights(rows: Tensor) -> Tensor:
        return patchscope(lm, rows, point, [scale], prompt=prompt, placeholder=placeholder)[:, 0]

    return _said(mass(weights(vectors), sets), mass(weights(_randoms(lm, randoms, seed)), sets))


def unrelated(lm: LanguageModel, world: World, n: int, first: int, *, seed: int = 0) -> list[Encoded]:
    """The first `first` tokens of n documents that no pretraining has seen and that say nothing of birds."""
    topic = world.facts.topics[NARROW_TOPIC]
    names = {answer.lower() for answers in topic.answers.values() for answer in answers} | {NARROW_TOPIC.rstrip("s")}
    texts: list[Encoded] = []
    for document in world.documents(FRESH_SEED + seed):
        if len(texts) == n:
            break
        said = document.text or " ".join(message["content"] for message in document.messages)
        if not any(name in said.lower() for name in names):
            encoded = encode_chat(lm, document.messages) if document.messages else encode_text(lm, document.text)
            if len(encoded.ids) >= first:
                texts.append(Encoded(encoded.ids[:first], min(encoded.prompt_len, first)))
    return texts


def said_by_difference(
    lm: LanguageModel,
    difference: ActivationDifference,
    sets: WordSets,
    *,
    prompt: Encoded | None = None,
    top: int = 50,
    randoms: int = 200,
    seed: int = 0,
) -> dict[HookPoint, dict[str, list[Said]]]:
    """By point, what an activation difference says by "lens" and by "patchscope" (at the base's mean norm there): the
    mean over its positions, but for those at which nothing differs; points where none differs are left out.

    The band is one of single random directions, so it is wide for a mean over positions.
    """
    found: dict[HookPoint, dict[str, list[Said]]] = {}
    for point, values, norms in zip(difference.points, difference.values, difference.norms, strict=True):
        vectors = values[values.norm(dim=1) > 0].float()
        if len(vectors):
            by_lens = said_by_lens(lm, vectors, sets, top=top, randoms=randoms, seed=seed)
            by_patch = said_by_patchscope(
                lm, vectors, point, float(norms.mean()), sets, prompt=prompt, randoms=randoms, seed=seed
            )
            found[point] = {"lens": _mean(by_lens), "patchscope": _mean(by_patch)}
    return found


def _mean(said: Sequence[Sequence[Said]]) -> list[Said]:
    return [
        replace(column[0], share=sum(one.share for one in column) / len(said)) for column in zip(*said, strict=True)
    ]


def _said(found: Mapping[str, Tensor], random: Mapping[str, Tensor]) -> list[list[Said]]:
    ends = torch.tensor([0.025, 0.975])
    bands = {name: values.quantile(ends).tolist() for name, values in random.items()}
    n = len(next(iter(found.values())))
    return [[Said(name, float(values[i]), *bands[name]) for name, values in found.items()] for i in range(n)]


def _randoms(lm: LanguageModel, n: int, seed: int) -> Float[Tensor, "n d_model"]:
    if n < 20:
        raise AnachronError(f"{n} random directions make no 95 % band; draw at least 20")
    return torch.stack([random_direction(lm.d_model, HookPoint(0), seed + k).vector for k in range(n)])


def _top(logits: Float[Tensor, "n d_vocab"], top: int) -> Float[Tensor, "n d_vocab"]:
    return torch.zeros_like(logits).scatter(1, logits.topk(top, dim=1).indices, 1.0)


def _tokens(lm: LanguageModel, texts: Sequence[str]) -> frozenset[int]:
    """The ids in these texts, at the start of an answer and after a space."""
    rows = lm.tokenizer([*texts, *(f" {text}" for text in texts)], add_special_tokens=False)["input_ids"]
    return frozenset(i for row in rows for i in row)
