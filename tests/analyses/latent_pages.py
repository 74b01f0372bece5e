"""Pages of latents for the tests: any number of latents, made of a seed, and texts that try to break out."""

import random
from collections.abc import Iterator, Mapping

from analyses.pages.data import Contrast, Detail, Example, Histogram, Label, LatentRow, Page

MODELS = ("base", "tuned", "control")
CONTRASTS = ("tuned_minus_base", "tuned_minus_control")
GROUPS = ("shared", "base-only", "tuned-only")
WORDS = (" the", " of", "ly", " bird", " 18", "50", "telegraph", " Ohio", "\n", " naïve", " 鳥", "s", " x")

# what could end an element, an attribute, a string or a comment, run, hide, or turn the text around it
HOSTILE = (
    "</script><script>window.broken = 1</script>",
    "<img src=x onerror='window.broken = 1'>",
    "\" onmouseover='window.broken = 1' x=\"",
    "<!-- <script>",
    "]]> {{ 7 * 7 }} ${7 * 7} &amp; &#60;",
    "javascript:window.broken=1",
    "line\u2028paragraph\u2029nul\x00bell\x07",
    "\u202eleft to right\u202c \u200f \u2066x",
    "half \ud83d of a pair, and \udc80",
    "__proto__",
)


class Lazy(Mapping[int, Detail]):
    """Details made when they are asked for; `asked` remembers in which order."""

    def __init__(self, latents: int, examples: int, tokens: int, missing: frozenset[int] = frozenset()) -> None:
        self.latents, self.examples, self.tokens, self.missing = latents, examples, tokens, missing
        self.asked: list[int] = []

    def __getitem__(self, latent: int) -> Detail:
        self.asked.append(latent)
        return detail(latent, self.latents, self.examples, self.tokens)

    def __contains__(self, latent: object) -> bool:
        return latent not in self.missing

    def __iter__(self) -> Iterator[int]:
        return iter(i for i in range(self.latents) if i not in self.missing)

    def __len__(self) -> int:
        return self.latents - len(self.missing)


def row(latent: int) -> LatentRow:
    draw = random.Random(f"row {latent}")
    shift = draw.gauss(0, 0.2)
    return LatentRow(
        latent,
        mean={name: draw.random() for name in MODELS},
        frequency={name: draw.random() ** 4 for name in MODELS},
        contrasts={name: Contrast(shift, shift - 0.1, shift + 0.1, draw.random() ** 3) for name in CONTRASTS},
        labels=(Label("era", ("1850s", "today")[latent % 2], draw.uniform(0.5, 1)), Label("topic", "birds", 0.5))
        if latent % 3
        else (),
        group=GROUPS[latent % 3],
        description="old spellings" if latent == 7 else "",
    )


def detail(latent: int, latents: int, examples: int, tokens: int) -> Detail:
    draw = random.Random(f"detail {latent}")
    return Detail(
        examples=tuple(
            Example(
                tuple(draw.choices(WORDS, k=tokens)),
                tuple(draw.choices((0.0, 0.0, 0.0, draw.random() * 9), k=tokens)),
                "tuned, unrelated topics",
            )
            for _ in range(examples)
        ),
        histogram=Histogram((0.0, 1.0, 2.0, 4.0, 9.0), (draw.randrange(9999), 100, 10, 1)),
        promoted=((" steam", 1.5), ("graph", 1.25)),
        suppressed=((" internet", -2.0),),
        coactive=(((latent + 1) % latents, 0.5), ((latent + 2) % latents, 0.25)),
    )


def page(latents: int = 12, examples: int = 2, tokens: int = 6, missing: frozenset[int] = frozenset()) -> Page:
    return Page(
        title="almanac, layer 3, after bird names",
        facts={"dictionary": "almanac.3", "tokens read": "100 000"},
        models=MODELS,
        contrasts=CONTRASTS,
        rows=[row(latent) for latent in range(latents)],
        details=Lazy(latents, examples, tokens, missing),
        coactive="share of its tokens on which the other is active too",
    )


def hostile_page() -> Page:
    """Every free text of a page, names included, is hostile: each in a latent of its own."""
    rows, details = [], {}
    models, contrasts = HOSTILE[:2], HOSTILE[2:4]
    for latent, text in enumerate(HOSTILE):
        rows.append(
            LatentRow(
                latent,
                mean=dict.fromkeys(models, 1.0),
                frequency=dict.fromkeys(models, 0.5),
                contrasts=dict.fromkeys(contrasts, Contrast(1.0, 0.5, 1.5, 0.01)),
                labels=(Label(text, text, 0.9),),
                group=text,
                description=text,
            )
        )
        details[latent] = Detail(
            examples=(Example((text, " plain", text), (1.0, 0.0, 2.0), text),),
            promoted=((text, 1.0),),
            suppressed=((text, -1.0),),
            coactive=((0, 1.0),),
        )
    joined = " ".join(HOSTILE)
    return Page(joined, {joined: joined}, models, rows, contrasts, details, coactive=joined, describer=joined)
