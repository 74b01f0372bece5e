"""A page from what was measured: a diff, a survey of examples, and labels, groups and guesses where there are some."""

from collections.abc import Iterable, Mapping, Sequence

from analyses.pages.data import Contrast, Detail, Example, Histogram, Label, LatentRow, Page
from interp.dictionaries.crosscoder import CLASSES, Crosscoder
from interp.dictionaries.dictionary import Dictionary
from interp.dictionaries.diff import Diff
from interp.dictionaries.examples import EDGES, Survey, contexts
from interp.dictionaries.explain import Guess
from interp.dictionaries.labels import Labels
from interp.dictionaries.readout import Token, readout
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Encoded

COACTIVE = "positions at which both are active, as a share of those at which either is (Jaccard index)"
STATES = 5  # states a latent's labels name at most


def collect(
    title: str,
    found: Diff,
    details: Mapping[int, Detail],
    *,
    models: Mapping[str, Sequence[str]] | None = None,
    labels: Labels | None = None,
    least: float = 0.75,
    groups: Mapping[int, str] | None = None,
    guesses: Sequence[Guess] = (),
    facts: Mapping[str, str] | None = None,
) -> Page:
    """The page of all latents of a diff, dead ones included.

    `models` says which arms make a column, as their mean: {"base": ["base"], "tuned": seeds}; without it each arm is
    one. `labels` with a held-out AUROC below `least` are left out. Without `groups` (`crosscoder_groups`) a latent's
    group says in which models it is ever active. Errors: AnachronError for an arm or latent that isn't there.
    """
    columns = {arm: (arm,) for arm in found.means} if models is None else models
    unknown = {arm for arms in columns.values() for arm in arms} - set(found.means)
    if unknown or not all(columns.values()):
        raise AnachronError(
            f"models of the page: {', '.join(sorted(unknown)) or 'one without arms'}; the diff has "
            f"{', '.join(found.means)}, name at least one of these a model"
        )
    means, frequencies = _by_model(found.means, columns), _by_model(found.frequencies, columns)
    n = len(next(iter(means.values())))
    if labels is not None and len(labels.best) != n:
        raise AnachronError(
            f"the diff is of {n} latents, the labels of {len(labels.best)}; take both of one dictionary"
        )
    contrasts = {
        name: [getattr(one, part).tolist() for part in ("mean", "low", "high", "q")]
        for name, one in found.contrasts.items()
    }
    described = {one.latent: one.text for one in guesses}
    rows = []
    for j in range(n):
        frequency = {name: values[j] for name, values in frequencies.items()}
        rows.append(
            LatentRow(
                j,
                mean={name: values[j] for name, values in means.items()},
                frequency=frequency,
                contrasts={name: Contrast(*(part[j] for part in parts)) for name, parts in contrasts.items()},
                labels=() if labels is None else _labels(labels, j, least),
                group=_activity(frequency) if groups is None else groups[j] if j in groups else "",
                description=described[j] if j in described else "",
            )
        )
    about = found.about
    read = {"at": str(about["point"]), "positions": str(about["positions"]), "prompts": str(about["prompts"])}
    asked = {str(one.by["model"]) if "model" in one.by else "a language model" for one in guesses}
    return Page(
        title,
        read | dict(facts or {}),
        list(columns),
        rows,
        list(contrasts),
        details,
        COACTIVE,
        describer=", ".join(sorted(asked)),
    )


def read_details(
    lm: LanguageModel,
    dictionary: Dictionary,
    encoded: Sequence[Encoded],
    seen: Survey,
    *,
    latents: Iterable[int] | None = None,
    source: str = "",
    max_tokens: int = 4096,
) -> dict[int, Detail]:
    """Examples, histogram, tokens and companions of some latents (default: all that the survey saw active).

    `lm` and `encoded` are the model and the prompts surveyed, `source` says of the examples what they are. Companions
    are there for the latents that the survey watched. Memory: some 3 KB a latent.
    """
    if len(seen.active) != dictionary.d_sae:
        raise AnachronError(
            f"{dictionary.name} has {dictionary.d_sae} latents, the survey {len(seen.active)}; survey this dictionary"
        )
    active = seen.active.tolist()
    wanted = range(dictionary.d_sae) if latents is None else latents
    alive = [j for j in dict.fromkeys(wanted) if active[j]]
    examples = contexts(lm, dictionary, encoded, seen, alive, max_tokens=max_tokens)
    watched = set(seen.watched)
    return {
        one.latent: Detail(
            examples=tuple(Example(e.tokens, e.activations, source) for e in examples[one.latent]),
            histogram=_histogram(seen.histogram[one.latent].tolist()),
            promoted=_pairs(one.promoted),
            suppressed=_pairs(one.suppressed),
            coactive=tuple((c.latent, c.jaccard) for c in seen.companions(one.latent)) if one.latent in watched else (),
        )
        for one in readout(lm, dictionary, alive)
    }


def crosscoder_groups(crosscoder: Crosscoder) -> dict[int, str]:
    """Each latent's class by its relative decoder norm, where it has one: base-only, shared, tuned-only."""
    return {j: kind for kind in CLASSES for j in crosscoder.latents(kind).tolist()}


def _by_model(values: Mapping, columns: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    return {name: (sum(values[arm].double() for arm in arms) / len(arms)).tolist() for name, arms in columns.items()}


def _activity(frequency: Mapping[str, float]) -> str:
    """In which models it is ever active, in words."""
    active = [name for name, value in frequency.items() if value > 0]
    if not active:
        return "never active"
    if len(active) == len(frequency):
        return "shared"
    return f"{active[0]}-only" if len(active) == 1 else " and ".join(active)


def _labels(labels: Labels, latent: int, least: float) -> tuple[Label, ...]:
    """The state chosen for the latent, then others, by the half on which states are chosen; AUROC of the other half."""
    if labels.label(latent, least) is None:
        return ()
    choosing, held_out = labels.choosing[latent].tolist(), labels.held_out[latent].tolist()
    best = int(labels.best[latent])
    others = sorted((k for k in range(len(choosing)) if k != best), key=lambda k: -choosing[k])
    chosen = [best, *(k for k in others if min(choosing[k], held_out[k]) >= least)]
    return tuple(_label(labels.states[k], held_out[k]) for k in chosen[:STATES])


def _label(name: str, auroc: float) -> Label:
    """A state named "era: 1850s" is one of the kind "era"."""
    kind, separator, state = name.partition(": ")
    return Label(kind, state, auroc) if separator else Label("state", name, auroc)


def _histogram(counts: Sequence[int]) -> Histogram:
    """From the first bin that has a count to the last."""
    filled = [i for i, count in enumerate(counts) if count]
    first, last = filled[0], filled[-1]
    return Histogram(tuple(EDGES[first : last + 2].tolist()), tuple(counts[first : last + 1]))


def _pairs(tokens: Iterable[Token]) -> tuple[tuple[str, float], ...]:
    return tuple((token.text, token.logit) for token in tokens)
