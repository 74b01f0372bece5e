"""What a crosscoder costs: a training step against two of an SAE by sae-lens, latent scaling against its definition."""

from collections.abc import Callable
from functools import partial
from itertools import cycle
from tempfile import TemporaryDirectory
from typing import Any

import torch

from analyses.bench.timing import Ratio, in_turn, summarise
from interp.dictionaries.crosscoder import Crosscoder
from interp.dictionaries.scaling import latent_scaling
from interp.hooks import HookPoint
from training.crosscoder import CrosscoderRecipe, train_crosscoder
from training.pairs import from_tensors
from training.sae_recipes import SaeRecipe, untrained

STEPS = 10  # of one measurement
K = 16
TRAINED = ((192, 1024, 1024), (192, 4096, 1024))  # d_model, d_sae, rows a batch
TRAINED_QUICK = ((64, 256, 256),)
SCALED = ((192, 512, 512),)  # d_model, latents, rows: the definition's tensor takes 0.2 GB of this
SCALED_QUICK = ((64, 128, 128),)


def crosscoder_steps(repeats: int, quick: bool = False) -> list[Ratio]:
    """Seconds of a short training run, files included, against the same steps of two BatchTopK SAEs by sae-lens."""
    found = []
    for d_model, d_sae, rows in TRAINED_QUICK if quick else TRAINED:
        base, tuned = _pairs(STEPS * rows, d_model)
        jobs = {
            "crosscoder": partial(_crosscoder, base, tuned, d_sae, rows),
            "two SAEs": partial(_two_saes, base, tuned, d_sae, rows),
        }
        seconds = in_turn(jobs, repeats)
        size = f"{d_model} to {d_sae}, {rows} rows"
        name = f"crosscoder, {STEPS} steps / two SAEs of sae-lens"
        found.append(summarise(name, size, seconds["crosscoder"], seconds["two SAEs"], target=1.0))
    return found


def scaling(repeats: int, quick: bool = False) -> list[Ratio]:
    """Seconds of the four betas of every latent in closed form, against one of them by its definition."""
    found = []
    for d_model, d_sae, rows in SCALED_QUICK if quick else SCALED:
        coder = _random(d_model, d_sae)
        base, tuned = _pairs(rows, d_model)
        jobs: dict[str, Callable[[], object]] = {
            "closed": partial(latent_scaling, coder, [(base, tuned)]),
            "direct": partial(_direct, coder, base, tuned),
        }
        seconds = in_turn(jobs, repeats)
        size = f"{d_sae} latents, {rows} rows of {d_model}"
        name = "latent scaling, four betas / one directly"
        found.append(summarise(name, size, seconds["closed"], seconds["direct"], target=0.1))
    return found


def _crosscoder(base: torch.Tensor, tuned: torch.Tensor, d_sae: int, rows: int) -> None:
    recipe = CrosscoderRecipe(d_sae=d_sae, k=K, steps=STEPS, batch_size=rows)
    with TemporaryDirectory() as folder:
        train_crosscoder(from_tensors(base, tuned), recipe, folder, point=HookPoint(0))


def _two_saes(base: torch.Tensor, tuned: torch.Tensor, d_sae: int, rows: int) -> None:
    for x in (base, tuned):
        trainer = _sae_trainer(x, d_sae, rows)
        for _ in range(STEPS):
            trainer.step(next(trainer.data_provider))


def _sae_trainer(x: torch.Tensor, d_sae: int, rows: int) -> Any:
    from sae_lens import SAETrainer
    from sae_lens.config import SAETrainerConfig

    sae = untrained(SaeRecipe(architecture="batchtopk", d_sae=d_sae, k=K), x.shape[1])
    config = SAETrainerConfig(
        total_training_samples=len(x), train_batch_size_samples=rows, lr=1e-3, lr_end=1e-3, device="cpu"
    )
    return SAETrainer(config, sae, cycle(x.split(rows)))


def _pairs(rows: int, d_model: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(rows, d_model, generator=generator)
    return base, base + 0.1 * torch.randn(rows, d_model, generator=generator)


def _random(d_model: int, d_sae: int) -> Crosscoder:
    """Random weights, of which about K latents a row are active."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(d_sae, d_model, generator=generator) * d_model**-0.5
    both = torch.stack([weights, weights])
    base, tuned = _pairs(256, d_model)
    scores = ((base + tuned) @ weights.T).relu() * weights.norm(dim=1) * 2
    norm = d_model**0.5
    return Crosscoder(
        "random",
        HookPoint(0),
        encoders=both,
        encoder_bias=torch.zeros(d_sae),
        decoders=both,
        decoder_biases=torch.zeros(2, d_model),
        threshold=float(scores.flatten().kthvalue(scores.numel() - 256 * K).values),
        mean_norms=(norm, norm),
        alive=torch.ones(d_sae, dtype=torch.bool),
    )


@torch.no_grad()
def _direct(coder: Crosscoder, base: torch.Tensor, tuned: torch.Tensor) -> torch.Tensor:
    """beta of the base's error as it is defined: the target of every latent and row, [d_sae, rows, d_model]."""
    f = coder.encode(base, tuned)
    error = base - coder.decode(f)[0]
    target = error + f.T[:, :, None] * coder.decoders[0][:, None, :]
    predicted = f.T[:, :, None] * coder.decoders[1][:, None, :]
    return (target * predicted).sum(dim=(1, 2)) / predicted.square().sum(dim=(1, 2))
