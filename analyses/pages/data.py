"""What a page of latents shows, as plain data: numbers and texts, no tensor, model or file.

All texts (tokens, labels, names) are untrusted and may hold anything, lone surrogates included. Activations are those
of the dictionary (not negative), means and frequencies are per token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Contrast:
    """A difference of one latent's mean activation between models, its 95 % interval, its Benjamini-Hochberg q."""

    estimate: float
    low: float
    high: float
    q: float


@dataclass(frozen=True)
class Label:
    """A known state that a latent tells apart from the others of its kind: ("era", "1850s", .97)."""

    kind: str
    state: str
    auroc: float


@dataclass(frozen=True)
class LatentRow:
    """One latent as the table shows it.

    `mean` (activation) and `frequency` (share of tokens on which it is active) are by model, `contrasts` by the names
    of the page. `labels` come best first. `group` says whose latent it is (shared, base-only, tuned-only), or is
    empty. `description` is what a language model made of it, which the page marks as a guess.
    """

    latent: int
    mean: Mapping[str, float]
    frequency: Mapping[str, float]
    contrasts: Mapping[str, Contrast]
    labels: tuple[Label, ...] = ()
    group: str = ""
    description: str = ""


@dataclass(frozen=True)
class Example:
    """A text on which a latent is active: its tokens, the activation at each, and where the text is from."""

    tokens: tuple[str, ...]
    values: tuple[float, ...]
    source: str = ""


@dataclass(frozen=True)
class Histogram:
    """How often which activation occurs: `counts[i]` tokens lie between `edges[i]` and `edges[i + 1]`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Detail:
    """What opens when a latent is chosen. Everything may be missing; what is there comes best first.

    `promoted` and `suppressed` are tokens with the latent's effect on their logits; `coactive` are other latents with a
    number whose meaning the page's `coactive` says.
    """

    examples: tuple[Example, ...] = ()
    histogram: Histogram | None = None
    promoted: tuple[tuple[str, float], ...] = ()
    suppressed: tuple[tuple[str, float], ...] = ()
    coactive: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Page:
    """All of a page.

    `models` and `contrasts` name what every row has, in the order of the columns; the table opens sorted by the first
    contrast. `facts` stand in the header (dictionary, layer, tokens read). `details` is by latent and may be lazy: the
    writer asks for each latent once, in ascending order, so that they need never be in memory together. `significance`
    is the q up to which a difference counts as found, `describer` names who guessed the descriptions.
    """

    title: str
    facts: Mapping[str, str]
    models: Sequence[str]
    rows: Sequence[LatentRow]
    contrasts: Sequence[str] = ()
    details: Mapping[int, Detail] = field(default_factory=dict)
    coactive: str = ""
    describer: str = "a language model"
    significance: float = 0.05
