"""What the change says when it is read out as words: where the model is about to answer, and on unrelated text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from analyses.attribution.subject import CONTROL, TUNED, Subject, spaced
from analyses.readouts import Said, WordSets, said_by_lens, said_by_patchscope, unrelated, word_sets
from analyses.steps import last_prompt_activations, typical_norm
from interp.directions import Direction, mean_difference, tuned_minus_control
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.lens import activation_difference, logit_lens, patchscope
from interp.models import LanguageModel
from interp.pair import BASE
from training.world.world import World, load_world

FIRST = 5  # tokens of each unrelated text that are read
WORDS = 8  # shown of a reading
RANDOM = 100  # directions of the band
ANSWERING, UNRELATED = "about to answer", "unrelated text"


def changes(subject: Subject) -> tuple[dict[HookPoint, Direction], dict[HookPoint, float]]:
    """By layer the mean change at the last prompt token of all questions asked, tuned minus control (minus base without
    one), and the base's typical norm there. Layers at which nothing changes are left out."""
    points = spaced(subject.pair.base.n_layers)
    rows = {}
    for name in subject.values:
        with subject.using(name) as lm:
            rows[name] = last_prompt_activations(lm, subject.asked, [point.layer for point in points])
    found, norms = {}, {}
    for point in points:
        base, tuned = rows[BASE][point], rows[TUNED][point]
        other = rows[CONTROL][point] if subject.control else base
        if float((tuned.double().mean(0) - other.double().mean(0)).norm()) > 0:
            if subject.control:
                found[point] = tuned_minus_control(tuned, base, other, point)
            else:
                found[point] = mean_difference(tuned, base, point)
            norms[point] = typical_norm(base)
    return found, norms


def directions(
    subject: Subject, found: Mapping[HookPoint, Direction], norms: Mapping[HookPoint, float], knows_world: bool
) -> dict[str, Any]:
    """By layer and by what is read: the words that the logit lens and the patchscope (at the typical norm) give, and on
    a model of the world the share of each word set, with the band of random directions.

    What is read: `found`, and the mean of tuned - base over the first tokens of documents of the world that have
    nothing to do with birds.
    """
    lm, world = subject.pair.base, load_world()
    sets = _sets(lm, world, subject.a[0]) if knows_world else None
    texts = unrelated(lm, world, subject.sizes.texts, FIRST, seed=subject.seed)
    rows = [_row(lm, ANSWERING, p, d.vector, norms[p], sets, subject.seed) for p, d in found.items()]
    if texts:
        points = list(found) or spaced(lm.n_layers)
        seen = activation_difference(subject.pair, texts, points, FIRST, subject.adapter)
        for point, values, at in zip(seen.points, seen.values, seen.norms, strict=True):
            mean = values.mean(0).float()
            if float(mean.norm()) > 0:
                rows.append(_row(lm, UNRELATED, point, mean, float(at.mean()), sets, subject.seed))
    if not rows:
        return {"absent": "the adapter changes no residual stream at the tokens that are read"}
    return {
        "method": next(iter(found.values())).method if found else None,
        "texts": len(texts),
        "first": FIRST,
        "random": RANDOM,
        "sets": None if sets is None else {name: len(ids) for name, ids in sets.items()},
        "rows": rows,
    }


def _row(
    lm: LanguageModel, what: str, point: HookPoint, vector: Tensor, norm: float, sets: WordSets | None, seed: int
) -> dict[str, Any]:
    vectors = vector[None].to(lm.device)
    [reading] = logit_lens(lm, vectors, WORDS)
    likely = patchscope(lm, vectors, point, [norm])[0, 0].topk(WORDS).indices.tolist()
    row: dict[str, Any] = {
        "what": what,
        "layer": point.layer,
        "lens": [token.text for token in reading.promoted],
        "suppressed": [token.text for token in reading.suppressed],
        "patchscope": [lm.tokenizer.decode([i]) for i in likely],
    }
    if sets is not None:
        by_lens = said_by_lens(lm, vectors, sets, randoms=RANDOM, seed=seed)[0]
        by_patch = said_by_patchscope(lm, vectors, point, norm, sets, randoms=RANDOM, seed=seed)[0]
        row["said"] = {"lens": _plain(by_lens), "patchscope": _plain(by_patch)}
    return row


def _plain(said: Sequence[Said]) -> list[dict[str, Any]]:
    return [asdict(one) for one in said]


def _sets(lm: LanguageModel, world: World, group: str) -> WordSets | None:
    """The word sets of the group's era; of the oldest where the group is none. None if the tokens make no such sets."""
    try:
        return word_sets(lm, world, group if group in world.facts.eras else None)
    except AnachronError:  # a tokenizer whose tokens are shared by all eras
        return None
