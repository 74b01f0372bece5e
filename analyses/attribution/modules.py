"""Which modules of the adapter make the change: each taken out, each alone; and their singular directions.

`rank_1` is what the adapter brings the base with the first singular direction of every module alone: where it is near
`whole`, what the whole adapter brings, the adapter can be read as one direction a module.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from analyses import steps
from analyses.attribution.subject import TUNED, Subject, number
from interp.attribution.adapters import Piece, effects, kept, screen
from interp.attribution.confirmation import rank_correlation, top
from interp.attribution.metric import measure
from interp.attribution.singular import SingularMap, alignment, singular_maps
from interp.directions import Direction
from interp.lens import logit_lens
from interp.pair import BASE

STEPS = 4  # of integrated gradients
WORDS = 8  # that a singular direction raises, and lowers


def modules(subject: Subject, towards: Mapping[int, Direction]) -> dict[str, Any]:
    """By module: what its loss costs the tuned model, what it alone brings to the base (both exact), and the integrated
    gradients of its singular directions, which over all modules sum to tuned - base but for `gap`.

    Of modules that write to the stream: how near their update lies to the direction `towards` of its layer, and what
    95 % of random directions stay below; the words that its first direction raises and lowers by the logit lens, turned
    to point along `towards` where that is known. `rank_correlation` is of the estimate at the tuned model with taking
    out.
    """
    pair, metric = subject.pair, subject.metric
    whole = screen(pair, subject.adapter, metric, steps=STEPS)
    at_tuned = screen(pair, subject.adapter, metric, at=1.0)
    maps = {m.module: m for m in singular_maps(pair, subject.adapter)}
    chosen = sorted(top(whole.effect, subject.sizes.modules))
    pieces = [Piece(whole.modules[n]) for n in chosen]
    with kept(pair, subject.adapter, [Piece(m.module, 0) for m in maps.values() if bool(m.values[0] > 0)]) as lm:
        rank_1 = measure(lm, metric) - subject.values[BASE]
    without = effects(pair, subject.adapter, metric, pieces)
    alone = effects(pair, subject.adapter, metric, pieces, keep=True)
    rows = []
    for place, n in enumerate(chosen):
        name = whole.modules[n]
        rows.append(
            {
                "module": name,
                "layer": maps[name].layer,
                "suppressed": _estimate(without[:, place], subject.seed),
                "induced": _estimate(alone[:, place], subject.seed),
                "integrated": float(whole.effect[n]),
                "directions": whole.directions[n].tolist(),
                "first_share": number(maps[name].first_share),
                **_alignment(maps[name], towards, subject.seed),
                **_words(subject, maps[name], towards),
            }
        )
    exact = without.mean(0)
    return {
        "rows": rows,
        "of": len(whole.modules),
        "gap": whole.gap,
        "rank_1": _estimate(rank_1, subject.seed),
        "whole": _estimate(subject.values[TUNED] - subject.values[BASE], subject.seed),
        "rank_correlation": number(rank_correlation(at_tuned.effect[chosen], exact)) if len(chosen) > 1 else None,
        "towards": next(iter(towards.values())).method if towards else None,
    }


def _alignment(m: SingularMap, towards: Mapping[int, Direction], seed: int) -> dict[str, float]:
    """`cosine` of the update's first direction, `span` of all, each with its band; nothing where it can't be told."""
    if not m.writes or m.layer is None or m.layer not in towards or not bool((m.values > 0).any()):
        return {}
    found = alignment([m], [towards[m.layer]], seed=seed)
    return {
        "cosine": float(found.cosine[0][0, 0]),
        "band": float(found.band[0]),
        "span": float(found.span[0, 0]),
        "span_band": float(found.span_band[0]),
    }


def _words(subject: Subject, m: SingularMap, towards: Mapping[int, Direction]) -> dict[str, list[str]]:
    """What the first singular direction of a module that writes to the stream says; nothing of others."""
    if not m.writes or not bool(m.values[0] > 0):
        return {}
    vector = m.left[:, 0].float()
    if m.layer is not None and m.layer in towards and float(vector @ towards[m.layer].vector.float().cpu()) < 0:
        vector = -vector
    with subject.using(BASE) as lm:
        [reading] = logit_lens(lm, vector[None].to(lm.device), WORDS)
    return {
        "raises": [token.text for token in reading.promoted],
        "lowers": [token.text for token in reading.suppressed],
    }


def _estimate(values: Tensor, seed: int) -> dict[str, Any]:
    return asdict(steps.estimate(values.tolist(), seed))
