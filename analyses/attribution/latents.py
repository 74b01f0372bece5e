"""Which latents carry the tuned model's answer: the base's set to the tuned model's, one at a time."""

from collections.abc import Mapping
from typing import Any

from analyses.attribution.subject import CONTROL, TUNED, Subject, number
from interp.attribution.latents import LatentPatch, confirmed, exact, screen
from interp.attribution.source import Source, record_source
from interp.dictionaries.dictionary import Dictionary
from interp.pair import BASE

STEPS = 4  # of integrated gradients, for the sum


def latents(subject: Subject, dictionary: Dictionary, labels: Mapping[int, str]) -> dict[str, Any]:
    """The latents of largest screened effect when the base's activation is set to the tuned model's at every token,
    each patched exactly; the first few with the control's activation instead, as a comparison.

    `labels` says what latents are about, where it is known. `together` is what all latents patched at once change,
    `error` the first-order part of what the dictionary leaves unexplained.
    """
    metric, point = subject.metric, dictionary.point
    tuned = _source(subject, TUNED, dictionary)
    control = _source(subject, CONTROL, dictionary) if subject.control else None
    patch = LatentPatch(dictionary, tuned)
    with subject.using(BASE) as lm:
        screened = screen(lm, metric, patch)
        whole = screen(lm, metric, patch, steps=STEPS)
        checked = confirmed(lm, metric, patch, screened, subject.sizes.latents)
        top = [int(name) for name in checked.labels]
        shown = top[: subject.sizes.shown]
        by_control = (
            [None] * len(top)
            if control is None
            else [
                *exact(lm, metric, LatentPatch(dictionary, control), shown).mean(0).tolist(),
                *[None] * (len(top) - len(shown)),
            ]
        )
    assert whole.patched is not None
    values = zip(top, checked.screened.tolist(), checked.exact.tolist(), by_control, strict=True)
    return {
        "dictionary": dictionary.name,
        "d_sae": dictionary.d_sae,
        "point": str(point),
        "rows": [
            {
                "latent": latent,
                "label": labels[latent] if latent in labels else "",
                "screened": estimate,
                "exact": effect,
                "control": other,
            }
            for latent, estimate, effect, other in values
        ],
        "shown": len(shown),
        "together": float((whole.patched - whole.clean).mean()),
        "error": float(screened.error.mean()),
        "gap": float(whole.gap.mean()),
        "rank_correlation": number(checked.rank_correlation) if len(top) > 1 else None,
        "size_correlation": number(checked.size_correlation) if len(top) > 1 else None,
    }


def _source(subject: Subject, name: str, dictionary: Dictionary) -> Source:
    with subject.using(name) as lm:
        return record_source(lm, subject.metric, [dictionary.point])
