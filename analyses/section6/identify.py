"""Step 1: the difference that a year makes in the tuned model, and the latents that write along it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.section6.decoder import Decoder
from interp.capture import capture
from interp.directions import Direction, normalised, random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.positions import LAST_PROMPT
from interp.prompts import encode_prompt

Activations = Mapping[int, Float[Tensor, "n d_model"]]
"""By year: row i is the same question in every year."""


@dataclass(frozen=True, eq=False)
class Identified:
    """`difference` = mean(year) - mean(neutral year); `latents` are the rows of largest cosine with it, `cosines` those
    cosines, `directions` the rows at unit length. `chance`: the mean largest cosine of random directions."""

    difference: Direction
    latents: tuple[int, ...]
    cosines: tuple[float, ...]
    directions: tuple[Direction, ...]
    chance: float


def year_activations(
    lm: LanguageModel, prompts: Mapping[int, Sequence[str]], point: HookPoint
) -> dict[int, Float[Tensor, "n d_model"]]:
    """fp32 activations at the last token of each templated prompt, by year."""
    return {
        year: capture(lm, [encode_prompt(lm, text) for text in texts], [point], LAST_PROMPT)[point].float()
        for year, texts in prompts.items()
    }


def identify(
    activations: Activations,
    decoder: Decoder,
    point: HookPoint,
    *,
    year: int,
    neutral: int,
    top: int = 10,
    randoms: int = 20,
    seed: int = 0,
) -> Identified:
    """The `top` latents whose decoder rows have the largest cosine with mean(year) - mean(neutral)."""
    if not 1 <= top <= len(decoder.rows):
        raise AnachronError(f"{top} latents asked for; the dictionary has 1 to {len(decoder.rows)}")
    means = {y: activations[y].double().mean(dim=0) for y in (year, neutral)}
    difference = normalised(means[year] - means[neutral], point, "mean_difference", {"years": [year, neutral]})
    best = decoder.cosines(difference.vector).topk(top)
    latents = [int(j) for j in best.indices]
    at_random = [
        float(decoder.cosines(random_direction(difference.d_model, point, seed + i).vector).max())
        for i in range(randoms)
    ]
    return Identified(
        difference,
        tuple(latents),
        tuple(float(c) for c in best.values),
        latent_directions(decoder, latents, point),
        sum(at_random) / len(at_random),
    )


def latent_directions(decoder: Decoder, latents: Sequence[int], point: HookPoint) -> tuple[Direction, ...]:
    """Rows of a decoder as directions at a point."""
    return tuple(
        normalised(decoder.rows[j].float(), point, "latent", {"latent": j, "dictionary": decoder.sha256})
        for j in latents
    )


def projections(activations: Activations, directions: Sequence[Direction]) -> dict[int, Float[Tensor, "n k"]]:
    """By year, h.v of every row with every direction, in residual-stream units (fp32)."""
    basis = torch.stack([d.vector for d in directions], dim=1)
    return {year: rows @ basis for year, rows in activations.items()}
