"""What screening all latents, or all layers and positions, costs beside patching each one."""

import torch

from analyses.bench.timing import Ratio, in_turn, summarise
from interp.attribution.latents import LatentPatch, exact, screen
from interp.attribution.metric import Metric, log_odds
from interp.attribution.patching import patch_map, patch_screen, prompt_columns
from interp.attribution.source import record_aligned
from interp.dictionaries.weights import Sae
from interp.hooks import HookPoint
from interp.models import LanguageModel
from training.world.questions import era_questions
from training.world.world import load_world

D_SAE, L0 = 1024, 16
TIMED, QUICK = (
    8,
    2,
)  # latents that are patched; the loop over all active ones takes as much longer as there are more of them


def attribution_screens(lm: LanguageModel, repeats: int, quick: bool = False) -> list[Ratio]:
    """Seconds of two passes over those of the exact loop: latents of a random SAE (a zero patch of every active one),
    and the residual stream at the prompt's last tokens (a dated run into the undated)."""
    n, timed = (1, QUICK) if quick else (3, TIMED)
    plain, dated = (_metric(lm, n, year) for year in (None, 1849))
    sae = _sae(lm.d_model)
    patch = LatentPatch(sae)
    n_active = int(screen(lm, plain, patch).effect.any(0).sum())
    points = [HookPoint(layer) for layer in range(lm.n_layers)][: 2 if quick else None]
    source = record_aligned(lm, dated, plain, points)
    columns = prompt_columns(plain, 1 if quick else 4)
    jobs = {
        "latents": lambda: screen(lm, plain, patch),
        "latents exactly": lambda: exact(lm, plain, patch, range(timed)),
        "cells": lambda: patch_screen(lm, plain, source, points, columns),
        "cells exactly": lambda: patch_map(lm, plain, source, points, columns),
    }
    seconds = in_turn(jobs, repeats)
    loop = [s * n_active / timed for s in seconds["latents exactly"]]
    size = f"{lm.name}, {n} questions"
    return [
        summarise("latent screen / exact loop", f"{size}, {n_active} active", seconds["latents"], loop, target=0.05),
        summarise(
            "layer x position screen / exact loop",
            f"{size}, {len(points) * len(columns)} cells",
            seconds["cells"],
            seconds["cells exactly"],
            target=0.5,
        ),
    ]


def _metric(lm: LanguageModel, n: int, year: int | None) -> Metric:
    questions = era_questions(load_world(), phrasings=1, year=year)[:n]
    old, *others = questions[0].answers
    return log_odds(lm, questions, old, others)


def _sae(d_model: int) -> Sae:
    """Random weights, L0 latents active on a token."""
    decoder = torch.randn(D_SAE, d_model, generator=torch.Generator().manual_seed(0)) * d_model**-0.5
    b_enc, b_dec = torch.zeros(D_SAE), torch.zeros(d_model)
    return Sae("random", HookPoint(0), "topk", decoder.T.contiguous(), b_enc, decoder, b_dec, k=L0)
