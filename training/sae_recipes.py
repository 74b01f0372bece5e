"""How to train an SAE, as a value, and the sae-lens object that is trained by it."""

from dataclasses import dataclass
from typing import Any

import torch

from interp.errors import AnachronError

ARCHITECTURES = ("batchtopk", "matryoshka", "topk", "jumprelu", "standard")
PRECISIONS = ("bfloat16", "float32")
STORED = ("float16", "float32")


@dataclass(frozen=True)
class SaeRecipe:
    """How to train an SAE of `d_sae` latents: `steps` batches of `batch_size` activations, by Adam.

    architecture: batchtopk (https://arxiv.org/abs/2412.06410), matryoshka (the same, each of `widths` first latents
    reconstructing alone as well, https://arxiv.org/abs/2503.17547), topk (https://arxiv.org/abs/2406.04093), jumprelu
    (https://arxiv.org/abs/2407.14435, with a quadratic penalty on l0 - k), standard (ReLU and an L1 penalty).

    k: active latents of a row, on average (topk: of each row); of "standard" there is no such number. `penalty`: weight
    of the L0 or L1 penalty, risen to over `penalty_warmup` of the steps; for activations that are scaled to a mean norm
    of sqrt(d_model), as all are here. The learning rate rises over `warmup` of the steps and falls to 0 over the last
    `decay`. A latent that was silent for `dead_after` steps counts as dead, and `revive` weighs the loss that dead
    latents have for what is left over by the others (the top-k kinds). Latents start as activations drawn from the
    first block, less the mean: fewer of them die than of random ones.

    At `precision` bfloat16 matrix products are rounded; weights and the state of Adam stay float32. Where a processor
    has that arithmetic a step takes half the time. `stored` is the precision of the matrices in the file.
    """

    architecture: str = "batchtopk"
    d_sae: int = 5120
    k: float | int = 15.8
    widths: tuple[int, ...] = ()
    steps: int = 10_000
    batch_size: int = 512
    learning_rate: float = 3e-3
    warmup: float = 0.02
    decay: float = 0.5
    penalty: float = 1.0
    penalty_warmup: float = 0.1
    dead_after: int = 200
    revive: float = 0.03
    precision: str = "bfloat16"
    stored: str = "float16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise AnachronError(f"architecture {self.architecture!r}; use one of {', '.join(ARCHITECTURES)}")
        for name, known in (("precision", PRECISIONS), ("stored", STORED)):
            if getattr(self, name) not in known:
                raise AnachronError(f"recipe has {name}={getattr(self, name)!r}; use {' or '.join(known)}")
        for name in ("d_sae", "k", "steps", "batch_size", "learning_rate", "dead_after"):
            if not getattr(self, name) > 0:
                raise AnachronError(f"recipe has {name}={getattr(self, name)}; it must be positive")
        if self.k > self.d_sae:
            raise AnachronError(f"recipe has k={self.k} of d_sae={self.d_sae} latents; lower k or raise d_sae")
        if self.architecture == "topk" and self.k != int(self.k):
            raise AnachronError(f"recipe has k={self.k} for topk, which keeps k of each row; give a whole number")
        if min(self.warmup, self.decay) < 0 or self.warmup + self.decay > 1:
            raise AnachronError(f"recipe has warmup={self.warmup} and decay={self.decay}; they are parts of one whole")
        if (self.architecture == "matryoshka") != bool(self.widths):
            raise AnachronError(
                f"architecture {self.architecture} with widths {self.widths}; matryoshka alone needs them"
            )
        if self.widths and (list(self.widths) != sorted(set(self.widths)) or self.widths[-1] >= self.d_sae):
            raise AnachronError(f"widths {self.widths} don't rise below d_sae={self.d_sae}, the last of them")


def untrained(recipe: SaeRecipe, d_model: int) -> Any:
    """The sae-lens object of a recipe, its random weights drawn from the seed; the caller's random state is left."""
    import sae_lens

    common: dict[str, Any] = {
        "d_in": d_model,
        "d_sae": recipe.d_sae,
        "normalize_activations": "expected_average_only_in",
    }
    k = int(recipe.k) if recipe.architecture == "topk" else recipe.k
    top = {"k": k, "aux_loss_coefficient": recipe.revive}
    warmup = round(recipe.penalty_warmup * recipe.steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        match recipe.architecture:
            case "standard":
                return sae_lens.StandardTrainingSAE(
                    sae_lens.StandardTrainingSAEConfig(**common, l1_coefficient=recipe.penalty, l1_warm_up_steps=warmup)
                )
            case "jumprelu":
                return sae_lens.JumpReLUTrainingSAE(
                    sae_lens.JumpReLUTrainingSAEConfig(
                        **common,
                        jumprelu_sparsity_loss_mode="quadratic",
                        target_l0=recipe.k,
                        l0_coefficient=recipe.penalty,
                        l0_warm_up_steps=warmup,
                    )
                )
            case "topk":
                return sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(**common, **top))
            case "batchtopk":
                return sae_lens.BatchTopKTrainingSAE(sae_lens.BatchTopKTrainingSAEConfig(**common, **top))
        return sae_lens.MatryoshkaBatchTopKTrainingSAE(
            sae_lens.MatryoshkaBatchTopKTrainingSAEConfig(
                **common, **top, matryoshka_widths=[*recipe.widths, recipe.d_sae]
            )
        )
