"""Which heads and MLPs write the answer, base against tuned, and what the tuned model's do in the base."""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from analyses import steps
from analyses.attribution.subject import CONTROL, TUNED, Subject, number
from interp.attribution.bridge import Bridge, bridge
from interp.attribution.components import activations, compare, direct, patch, screen
from interp.attribution.confirmation import top
from interp.attribution.contrast import Contrast, contrast, next_token_log_odds
from interp.errors import AnachronError
from interp.pair import BASE


def components(subject: Subject) -> dict[str, Any]:
    """Direct attributions of the next-token log-odds by component, base and tuned, with intervals over questions; and
    of those that differ most, what the tuned model's (and the control's) activation does in the base, exactly.

    Where transformer-lens has no bridge for the model, or no answers differ in their first token, `absent` says so.
    """
    found = _contrasts(subject)
    if not found:
        return {"absent": "no question's answers differ in a first token between the two sides"}
    encoded, metric = [c.encoded for c in found], next_token_log_odds(found)
    written, sources = {}, {}
    for name in reversed(list(subject.values)):  # the base last: it is the one that is patched
        try:
            bridged = _bridge(subject, name)
        except AnachronError as error:
            return {"absent": str(error)}
        if name != CONTROL:
            written[name] = direct(bridged, encoded, metric)
        if name != BASE:
            sources[name] = activations(bridged, encoded)
    change = (written[TUNED].values - written[BASE].values).double().mean(0)
    names = [written[BASE].names[j] for j in top(change, subject.sizes.components)]
    patched = [name for name in names if name in bridged.names]
    screened = screen(bridged, encoded, sources[TUNED], metric)
    effects = {name: patch(bridged, encoded, source, metric, patched) for name, source in sources.items()}
    checked = compare(screened, effects[TUNED]) if len(patched) > 2 else None
    place = {name: j for j, name in enumerate(written[BASE].names)}
    return {
        "metric": "next-token log-odds",
        "questions": len(found),
        "left_out": min(subject.sizes.contrasts, len(subject.asked)) - len(found),
        "rows": [
            {
                "component": name,
                **{model: _estimate(written[model].values[:, place[name]], subject.seed) for model in (BASE, TUNED)},
                "patched": {
                    model: _estimate(e.values[:, patched.index(name)], subject.seed) if name in patched else None
                    for model, e in effects.items()
                },
            }
            for name in names
        ],
        "means": {name: float(written[name].metric.mean()) for name in (BASE, TUNED)},
        "rank_correlation": None if checked is None else number(checked.rank_correlation),
        "size_correlation": None if checked is None else number(checked.size_correlation),
    }


def _contrasts(subject: Subject) -> list[Contrast]:
    """Of one question a topic as far as they go; those whose sides begin alike are left out."""
    found = []
    for question in subject.candidates(subject.sizes.contrasts):
        sides = [[a for name in side for a in question.answers[name]] for side in (subject.a, subject.b)]
        try:
            found.append(contrast(subject.pair.base, question.messages, *sides))
        except AnachronError:  # sides that begin with the same tokens: the next token tells nothing
            continue
    return found


def _bridge(subject: Subject, name: str) -> Bridge:
    with subject.using(name) as lm:
        return bridge(lm)


def _estimate(values: Tensor, seed: int) -> dict[str, Any]:
    return asdict(steps.estimate(values.double().tolist(), seed))
