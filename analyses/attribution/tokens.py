"""Which tokens of the prompt the answer hangs on: each left out, exactly; and how far estimates rank them so."""

from typing import Any

from analyses.attribution.subject import TUNED, Subject, number
from interp.attribution.confirmation import rank_correlation
from interp.attribution.tokens import TokenAttribution, attribute_tokens, left_out, replaced
from interp.pair import BASE

STEPS = 8  # of integrated gradients


def tokens(subject: Subject) -> dict[str, Any]:
    """By question: the prompt's tokens and what leaving out each takes from the log-odds, base, tuned, difference.

    For the tuned model the same by replacing the token with the mean embedding, and two estimates of that, by the
    gradient (`screened`) and by integrated gradients; their rank correlations with it are means over questions, which
    say whether an estimate may be looked at alone.
    """
    pair, metric = subject.pair, subject.metric
    without: dict[str, TokenAttribution] = {}
    for name in (BASE, TUNED):
        with subject.using(name) as lm:
            without[name] = left_out(lm, subject.questions, subject.a, subject.b)
    with subject.using(TUNED) as lm:
        exact, screened = replaced(lm, metric), attribute_tokens(lm, metric)
        integrated = attribute_tokens(lm, metric, steps=STEPS)
    rows = []
    for i, prompt in enumerate(metric.prompts):
        base, tuned = without[BASE].effect[i], without[TUNED].effect[i]
        rows.append(
            {
                "id": metric.ids[i],
                "tokens": [pair.base.tokenizer.decode([token]) for token in prompt],
                "left_out": {BASE: base.tolist(), TUNED: tuned.tolist(), "difference": (tuned - base).tolist()},
                "replaced": exact.effect[i].tolist(),
                "screened": screened.effect[i].tolist(),
            }
        )
    return {
        "questions": rows,
        "screen": screened.method,
        "rank_correlation": _mean_correlation(screened, exact),
        "integrated_rank_correlation": _mean_correlation(integrated, exact),
        "left_out_against_replaced": _mean_correlation(without[TUNED], exact),
    }


def _mean_correlation(a: TokenAttribution, b: TokenAttribution) -> float | None:
    found = [rank_correlation(x, y) for x, y in zip(a.effect, b.effect, strict=True) if len(x) > 1]
    return number(sum(found) / len(found)) if found else None
