"""Where a latent is active: its strongest examples in context, the histogram of its activations, what goes with it.

One pass over the prompts keeps, whatever their number, `top` examples (value, prompt, position) and `BINS` counts a
latent, and a row of counts for every latent whose companions are asked for. A second pass, over the prompts that
examples come from, reads the text around them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.dictionaries.activity import CELLS, Active, activity
from interp.dictionaries.dictionary import Dictionary
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.positions import ALL, Positions
from interp.prompts import Encoded

EDGES = torch.logspace(-4, 6, 81, dtype=torch.float64)
"""Edges of the histogram's bins, eight a factor of ten; activations beyond them count in the first and last bin."""
BINS = len(EDGES) - 1


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass saw. `value[j, k]` is the k-th largest of latent j's largest activations in a prompt, found at
    `position` of `prompt`; 0, -1 and -1 where the latent is active in fewer prompts.

    `histogram[j]` counts positions by activation (`EDGES`), `active[j]` all of them out of `n`. `together[i, j]` counts
    positions at which `watched[i]` and latent j are both active.
    """

    value: Float[Tensor, "d_sae top"]
    prompt: Int[Tensor, "d_sae top"]
    position: Int[Tensor, "d_sae top"]
    histogram: Int[Tensor, "d_sae bins"]
    active: Int[Tensor, " d_sae"]
    n: int
    watched: tuple[int, ...]
    together: Int[Tensor, "watched d_sae"]

    @property
    def frequency(self) -> Float[Tensor, " d_sae"]:
        """Share of positions at which each latent is active."""
        return self.active.float() / self.n

    def companions(self, latent: int, n: int = 10) -> list["Companion"]:
        """The `n` latents that are most often active where this one is, by Jaccard index; it must be in `watched`."""
        if latent not in self.watched:
            raise AnachronError(f"latent {latent} wasn't watched; name it in `watch` when surveying")
        both = self.together[self.watched.index(latent)].double()
        either = self.active[latent] + self.active - both
        jaccard = both / either.clamp(min=1)
        jaccard[latent] = -1.0
        best = jaccard.topk(min(n, len(jaccard) - 1)).indices
        return [Companion(int(j), int(both[j]), float(jaccard[j])) for j in best if both[j] > 0]


@dataclass(frozen=True)
class Companion:
    """A latent active at `count` of the same positions; `jaccard` = both / either."""

    latent: int
    count: int
    jaccard: float


@dataclass(frozen=True)
class Example:
    """A latent's activation in context: the texts of the tokens around its peak and its activation at each.

    `peak` is the index in `tokens` of the strongest; `begin` the position of the first in prompt number `prompt`.
    """

    latent: int
    prompt: int
    begin: int
    peak: int
    tokens: tuple[str, ...]
    activations: tuple[float, ...]

    @property
    def value(self) -> float:
        return self.activations[self.peak]


def survey(
    lm: LanguageModel,
    dictionary: Dictionary,
    encoded: Sequence[Encoded],
    positions: Positions = ALL,
    *,
    top: int = 10,
    watch: Sequence[int] = (),
    max_tokens: int = 4096,
) -> Survey:
    """One pass over all prompts. Memory, in bytes: d_sae x (20 top + 8 (BINS + 1) + 8 x number of `watch`)."""
    watched = tuple(dict.fromkeys(watch))
    if top < 1 or any(not 0 <= j < dictionary.d_sae for j in watched):
        raise AnachronError(
            f"top {top}, latents {watched[:5]}; top is 1 or more and {dictionary.name} has latents 0 to "
            f"{dictionary.d_sae - 1}"
        )
    if len(watched) * dictionary.d_sae > 8 * CELLS:
        raise AnachronError(
            f"{len(watched)} latents watched beside {dictionary.d_sae}; watch {8 * CELLS // dictionary.d_sae} or fewer"
        )
    d_sae, n = dictionary.d_sae, 0
    value = torch.zeros(d_sae, top)
    prompt, position = torch.full((d_sae, top), -1), torch.full((d_sae, top), -1)
    histogram = torch.zeros(d_sae * BINS, dtype=torch.long)
    together = torch.zeros(len(watched), d_sae, dtype=torch.long)
    for part in activity(lm, dictionary, encoded, positions, max_tokens):
        n += len(part.prompt)
        keys = part.latent * BINS + bins(part.value)
        histogram.index_add_(0, keys, torch.ones_like(keys))
        _keep_best(part, d_sae, value, prompt, position)
        _count_together(part, watched, together)
    histogram = histogram.view(d_sae, BINS)
    return Survey(value, prompt, position, histogram, histogram.sum(dim=1), n, watched, together)


def bins(value: Float[Tensor, " entries"]) -> Int[Tensor, " entries"]:
    """The histogram's bin of each activation: EDGES[b] <= value < EDGES[b + 1], the outer ones open."""
    return (torch.searchsorted(EDGES, value.double(), right=True) - 1).clamp(0, BINS - 1)


def contexts(
    lm: LanguageModel,
    dictionary: Dictionary,
    encoded: Sequence[Encoded],
    found: Survey,
    latents: Sequence[int],
    *,
    before: int = 12,
    after: int = 6,
    max_tokens: int = 4096,
) -> dict[int, list[Example]]:
    """The examples of some latents, strongest first: `before` tokens ahead of the peak and `after` behind it, cut at
    the prompt's ends. `encoded` are the prompts surveyed. Activations shown include positions that weren't selected.
    """
    wanted: dict[int, list[tuple[int, int, int]]] = {}
    for j in latents:
        for k, (prompt, position) in enumerate(zip(found.prompt[j].tolist(), found.position[j].tolist(), strict=True)):
            if prompt >= 0:
                wanted.setdefault(prompt, []).append((j, k, position))
    examples: dict[int, dict[int, Example]] = {j: {} for j in latents}
    numbers = sorted(wanted)
    if not numbers:
        return {j: [] for j in latents}
    texts = _Texts(lm)
    for part in activity(lm, dictionary, [encoded[i] for i in numbers], ALL, max_tokens):
        values = {
            (numbers[i], at, j): v
            for i, at, j, v in _entries(part, {j for several in wanted.values() for j, _, _ in several})
        }
        for i in dict.fromkeys(part.prompt.tolist()):
            ids = encoded[numbers[i]].ids
            for j, k, peak in wanted[numbers[i]]:
                begin, end = max(0, peak - before), min(len(ids), peak + after + 1)
                window = range(begin, end)
                examples[j][k] = Example(
                    j,
                    numbers[i],
                    begin,
                    peak - begin,
                    tuple(texts.of(ids[at]) for at in window),
                    tuple(values.get((numbers[i], at, j), 0.0) for at in window),
                )
    return {j: [one for _, one in sorted(several.items())] for j, several in examples.items()}


class _Texts:
    """Texts of single tokens, each decoded once."""

    def __init__(self, lm: LanguageModel) -> None:
        self._tokenizer, self._known = lm.tokenizer, dict[int, str]()

    def of(self, token: int) -> str:
        if token not in self._known:
            self._known[token] = self._tokenizer.decode([token])
        return self._known[token]


def _entries(part: Active, latents: set[int]) -> list[tuple[int, int, int, float]]:
    """(prompt, position, latent, value) of the entries of these latents."""
    kept = torch.isin(part.latent, torch.tensor(sorted(latents)))
    row = part.row[kept]
    columns = (part.prompt[row], part.position[row], part.latent[kept], part.value[kept])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _keep_best(part: Active, d_sae: int, value: Tensor, prompt: Tensor, position: Tensor) -> None:
    """Merge each prompt's largest activation of each latent into the best so far, in place."""
    top = value.shape[1]
    of_prompt = part.prompt[part.row]
    # by latent, prompt, then falling value (the earlier position first among equals): the first of each prompt is its
    # largest, then by latent and falling value
    order = part.value.argsort(descending=True, stable=True)
    order = order[(of_prompt[order] * d_sae + part.latent[order]).argsort(stable=True)]
    first = _firsts(of_prompt[order] * d_sae + part.latent[order])
    order = order[first]
    order = order[part.value[order].argsort(descending=True, stable=True)]
    order = order[part.latent[order].argsort(stable=True)]
    latent = part.latent[order]
    starts = _firsts(latent).nonzero().squeeze(1)
    group = _firsts(latent).cumsum(0) - 1
    place = torch.arange(len(order)) - starts[group]
    kept = place < top
    order, group, place = order[kept], group[kept], place[kept]
    latents = latent[starts]
    new = torch.zeros(len(latents), top)
    where = torch.full((2, len(latents), top), -1)
    new[group, place] = part.value[order]
    where[0, group, place] = of_prompt[order]
    where[1, group, place] = part.position[part.row[order]]
    best, chosen = torch.cat([value[latents], new], dim=1).sort(dim=1, descending=True, stable=True)
    value[latents] = best[:, :top]
    for kept_so_far, found in ((prompt, where[0]), (position, where[1])):
        both = torch.cat([kept_so_far[latents], found], dim=1)
        kept_so_far[latents] = both.gather(1, chosen)[:, :top]


def _firsts(sorted_keys: Int[Tensor, " n"]) -> Tensor:
    """True where a run of equal keys begins."""
    fresh = torch.ones(len(sorted_keys), dtype=torch.bool)
    fresh[1:] = sorted_keys[1:] != sorted_keys[:-1]
    return fresh


def _count_together(part: Active, watched: Sequence[int], together: Tensor) -> None:
    from scipy.sparse import csr_array

    if not watched:
        return
    rows, d_sae = len(part.prompt), together.shape[1]
    ones = torch.ones(len(part.row), dtype=torch.long).numpy()
    active = csr_array((ones, (part.row.numpy(), part.latent.numpy())), shape=(rows, d_sae))
    found = (active[:, list(watched)].T @ active).tocoo()
    together[torch.from_numpy(found.row).long(), torch.from_numpy(found.col).long()] += torch.from_numpy(found.data)
