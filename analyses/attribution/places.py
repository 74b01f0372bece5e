"""At which layers and tokens the tuned model's answer is carried: its streams patched into the base's, and back."""

from typing import Any

from analyses.attribution.subject import TUNED, Subject, number, spaced
from interp.attribution.confirmation import rank_correlation
from interp.attribution.metric import Metric
from interp.attribution.patching import PatchMap, patch_map, patch_screen, prompt_columns
from interp.attribution.source import record_source
from interp.pair import BASE


def places(subject: Subject) -> dict[str, Any]:
    """Exact maps, layers x (the prompt's last tokens, then all of the answer): the tuned model's stream put into the
    base (`brings`), the base's into the tuned model (`takes`). `rank_correlation` is of the map `brings` with its
    estimate from two passes, over cells."""
    pair, metric = subject.pair, subject.metric
    points = spaced(pair.base.n_layers)
    columns = prompt_columns(metric, min(subject.sizes.last, max(map(len, metric.prompts))))
    sources = {}
    for name in (BASE, TUNED):
        with subject.using(name) as lm:
            sources[name] = record_source(lm, metric, points)
    with subject.using(BASE) as lm:
        brings = patch_map(lm, metric, sources[TUNED], points, columns)
        screened = patch_screen(lm, metric, sources[TUNED], points, columns)
    with subject.using(TUNED) as lm:
        takes = patch_map(lm, metric, sources[BASE], points, columns)
    means = [x.effect.mean(0).flatten() for x in (screened, brings)]
    return {
        "site": points[0].site,
        "layers": [point.layer for point in points],
        "columns": [_called(subject, metric, column.name) for column in columns],
        "brings": _mean(brings),
        "takes": _mean(takes),
        "screened": _mean(screened),
        "rank_correlation": number(rank_correlation(*means)),
    }


def _mean(found: PatchMap) -> list[list[float]]:
    return found.effect.mean(0).tolist()


def _called(subject: Subject, metric: Metric, column: str) -> str:
    """A column by its token where all prompts have the same there, else by its place counted from the prompt's end."""
    if not column.lstrip("-").isdecimal():
        return column
    there = {prompt[int(column)] for prompt in metric.prompts if len(prompt) >= -int(column)}
    token = subject.pair.base.tokenizer.decode([there.pop()]).strip() if len(there) == 1 else ""
    return f"{column} {token}".strip()
