"""Trains a BatchTopK crosscoder on pairs of activations; what one is stands in `interp.dictionaries.crosscoder`.

Of a batch of B rows the k B entries with the largest scores f_j (n_j^base + n_j^tuned) are kept and decoded. The loss
is sum_m ||x^m - xhat^m||^2 per row, each model's activations divided by their mean norm (in the first chunk) /
sqrt(d_model), plus AuxK (Gao et al. 2024, https://arxiv.org/abs/2406.04093): `dead_weight` times the error of
predicting what is left over from latents not kept for `dead_after` steps, the best d_model / 2 of them a row.

A step makes one dense product, the encoder's. Everything else, gradients included, touches kept entries only.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.dictionaries.crosscoder import Crosscoder, load_crosscoder
from interp.errors import AnachronError
from interp.files import digest, load_tensors, save_tensors
from interp.hooks import HookPoint
from training.pairs import Pairs, batches, whole_chunk

CHECKPOINT = "checkpoint.safetensors"
FILE = "crosscoder.safetensors"


@dataclass(frozen=True)
class CrosscoderRecipe:
    """How to train. `k` is the mean number of latents kept a row; Adam, its rate rising over `warmup` steps and
    falling linearly to zero over the last `decay` of them."""

    d_sae: int = 1024
    k: float | int = 16
    steps: int = 2000
    batch_size: int = 1024
    learning_rate: float = 5e-3
    warmup: int = 50
    decay: float | int = 0.3
    initial_norm: float = 0.1  # of a decoder row, where an activation's is sqrt(d_model)
    dead_after: int = 50
    dead_weight: float | int = 1 / 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("d_sae", "k", "steps", "batch_size", "learning_rate", "initial_norm", "dead_after"):
            if not getattr(self, name) > 0:
                raise AnachronError(f"crosscoder recipe has {name}={getattr(self, name)}; it must be positive")
        if not self.k <= self.d_sae:
            raise AnachronError(f"crosscoder recipe keeps k={self.k} latents a row of d_sae={self.d_sae}; lower k")
        if not (self.warmup >= 0 and 0 <= self.decay <= 1 and self.dead_weight >= 0):
            raise AnachronError(
                f"crosscoder recipe has warmup={self.warmup}, decay={self.decay}, dead_weight={self.dead_weight}; none "
                "may be negative, and decay is a part of the steps, at most 1"
            )

    @property
    def threshold_rate(self) -> float:
        """Of the running mean of the smallest kept score: it forgets over 50 steps, or a tenth of a shorter run."""
        return max(0.02, min(1.0, 10 / self.steps))

    def rate(self, step: int) -> float:
        """The learning rate of a step (0-based)."""
        fall = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup), fall)


def train_crosscoder(
    pairs: Pairs,
    recipe: CrosscoderRecipe,
    out: str | Path,
    *,
    point: HookPoint,
    name: str = "crosscoder",
    about: dict[str, Any] | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[int, float], None] | None = None,
    checkpoint_every: int | None = None,
) -> Crosscoder:
    """Train to the end, write `crosscoder.safetensors` and `.json` into the folder `out`, and return what they hold.

    `about` (JSON data: which models, which text) is kept beside the recipe in `trained`. `progress(step, fvu)` is
    called after each step, counted from 1, with the batch's fraction of variance unexplained. With `checkpoint_every`
    a run that was cut off goes on to the same bytes. On a CPU, same pairs, recipe and number of threads: same bytes.

    Errors: AnachronError if `out` holds a finished run or a checkpoint of another one, for pairs that don't match, for
    chunks smaller than a batch, and when the loss is not finite.
    """
    out = Path(out)
    if (out / FILE).with_suffix(".json").exists():  # written last
        raise AnachronError(f"{out}: holds a finished crosscoder; choose another folder or remove it")
    pairs = lru_cache(maxsize=1)(pairs)  # the first chunk is needed twice
    base, tuned = whole_chunk(pairs, 0, recipe.batch_size)
    first = digest(b"".join(x.float().contiguous().cpu().numpy().tobytes() for x in (base, tuned)))
    made_from = {"recipe": asdict(recipe), "about": about or {}, "first_chunk": first, "torch": version("torch")}
    run = digest(json.dumps([made_from, str(point)]).encode())
    means = [x.float().mean(dim=0) for x in (base, tuned)]
    mean_norms = [float(x.float().norm(dim=1).mean()) for x in (base, tuned)]
    if not all(norm > 0 for norm in mean_norms):
        raise AnachronError(f"the activations at {point} have mean norms {mean_norms}; check what was captured there")
    scales = torch.tensor([base.shape[1] ** 0.5 / norm for norm in mean_norms], device=device)
    state = _fresh(recipe, torch.cat([mean.to(device) * s for mean, s in zip(means, scales, strict=True)]))
    state.read(out / CHECKPOINT, run)
    todo = batches(pairs, recipe.batch_size, recipe.seed, state.chunk, state.used)
    while state.step < recipe.steps:
        state.chunk, state.used, rows = next(todo)
        x = torch.cat([part.to(device, torch.float32) * s for part, s in zip(rows, scales, strict=True)], dim=1)
        state.optimizer.param_groups[0]["lr"] = recipe.rate(state.step)
        state.fvu.append(_step(state, x, recipe))
        if not isfinite(state.fvu[-1]):
            raise AnachronError(
                f"the crosscoder's loss is {state.fvu[-1]} at step {state.step} of {recipe.steps} (learning rate "
                f"{recipe.learning_rate}); lower the rate, or check the activations"
            )
        if progress is not None:
            progress(state.step, state.fvu[-1])
        if checkpoint_every is not None and state.step % checkpoint_every == 0:
            state.write(out / CHECKPOINT, run)
    _folded(state, scales, (mean_norms[0], mean_norms[1]), recipe, point, name, made_from).save(out / FILE)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return load_crosscoder(out / FILE, device)


@dataclass(eq=False)
class _State:
    """Everything a step changes. Both models lie side by side: axis 2 d_model is base, then tuned."""

    weights: dict[str, nn.Parameter]  # encoder, decoder [d_sae, 2 d_model], encoder_bias, decoder_bias
    optimizer: torch.optim.Adam
    threshold: float
    idle: Int[Tensor, " d_sae"]  # steps since a latent was last kept
    fvu: list[float]
    chunk: int = 0
    used: int = 0  # rows of the chunk

    @property
    def step(self) -> int:
        return len(self.fvu)

    def write(self, path: Path, run: str) -> None:
        tensors: dict[str, Tensor] = {f"weight/{key}": weight for key, weight in self.weights.items()}
        for key, weight in self.weights.items():
            tensors |= {f"{entry}/{key}": value for entry, value in self.optimizer.state[weight].items()}
        tensors |= {"idle": self.idle, "fvu": torch.tensor(self.fvu, dtype=torch.float64)}
        tensors["threshold"] = torch.tensor(self.threshold, dtype=torch.float64)
        save_tensors(path, tensors, {"run": run, "chunk": str(self.chunk), "used": str(self.used)})

    def read(self, path: Path, run: str) -> None:
        """Take up what `write` left, if it is there."""
        if not path.exists():
            return
        tensors, metadata = load_tensors(path, self.idle.device)
        if metadata["run"] != run:
            raise AnachronError(
                f"{path}: the checkpoint of a run with another recipe, other activations or another torch; delete it "
                "or choose another folder"
            )
        entries = ("step", "exp_avg", "exp_avg_sq")
        moments = {i: {e: tensors[f"{e}/{key}"] for e in entries} for i, key in enumerate(self.weights)}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        with torch.no_grad():
            for key, weight in self.weights.items():
                weight.copy_(tensors[f"weight/{key}"])
        self.idle, self.fvu = tensors["idle"], tensors["fvu"].tolist()
        self.threshold = float(tensors["threshold"])
        self.chunk, self.used = int(metadata["chunk"]), int(metadata["used"])


def _fresh(recipe: CrosscoderRecipe, mean: Float[Tensor, " both"]) -> _State:
    """Decoders small, the same for both models, the encoder their transpose; at the mean activation all is zero.

    Directions are random. Starting from activations drawn at random instead left mixtures of sources in place: of 40
    planted private sources 18 to 34 were found, against 35 to 40 (5 settings).
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    row = nn.functional.normalize(torch.randn(recipe.d_sae, len(mean) // 2, generator=generator), dim=1)
    decoder = (recipe.initial_norm * torch.cat([row, row], dim=1)).to(mean)
    start = {
        "encoder": decoder.clone(),
        "decoder": decoder,
        "encoder_bias": -(decoder @ mean),
        "decoder_bias": mean.clone(),
    }
    weights = {key: nn.Parameter(value) for key, value in start.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=recipe.learning_rate, fused=True)
    return _State(weights, optimizer, 0.0, torch.zeros(recipe.d_sae, dtype=torch.long, device=mean.device), [])


def _step(state: _State, x: Float[Tensor, "batch both"], recipe: CrosscoderRecipe) -> float:
    """One step of the optimiser; the batch's fvu before it."""
    weights = state.weights
    with torch.no_grad():
        f = torch.addmm(weights["encoder_bias"], x, weights["encoder"].T).relu_()
        scores = f * weights["decoder"].unflatten(1, (2, -1)).norm(dim=2).sum(dim=1)
        # the running mean is a good guess of where the cut will be, so few entries have to be sorted
        kept = _largest(scores, round(recipe.k * len(x)), 0.9 * state.threshold)
        if len(kept):
            smallest = float(scores.flatten()[kept].min())
            rate = recipe.threshold_rate if state.threshold else 1.0  # the first is taken as it is
            state.threshold += rate * (smallest - state.threshold)
        idle = state.idle + 1
        idle[kept % recipe.d_sae] = 0
        state.idle = idle
    state.optimizer.zero_grad()
    error = x - weights["decoder_bias"] - _decoded(state, x, f, kept)
    loss = error.square().sum(dim=1).mean()
    dead = state.idle >= recipe.dead_after
    if recipe.dead_weight and dead.any():
        spare = _largest(torch.where(dead, scores, 0.0), min(int(dead.sum()), x.shape[1] // 4) * len(x), 0.0)
        left = error.detach() - _decoded(state, x, f, spare)
        (recipe.dead_weight * left.square().sum(dim=1).mean()).backward()
    loss.backward()
    state.optimizer.step()
    return loss.item() / float((x - x.mean(dim=0)).square().sum(dim=1).mean())


class _Kept(torch.autograd.Function):
    """The kept entries of ReLU(x W^T + b), already computed, with the gradient that reaches W and b through them."""

    @staticmethod
    def forward(ctx, encoder, bias, x, values, latents, starts):
        ctx.save_for_backward(encoder, x, latents, starts)
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        encoder, x, latents, starts = ctx.saved_tensors
        with torch.enable_grad():  # d/dW_j of sum_j g_nj <W_j, x_n> is sum_n g_nj x_n
            weight = encoder.detach().requires_grad_()
            (by_weight,) = torch.autograd.grad(_bags(latents, weight, starts, gradient), weight, x)
        return by_weight, encoder.new_zeros(len(encoder)).index_add_(0, latents, gradient), None, None, None, None


def _decoded(
    state: _State, x: Float[Tensor, "batch both"], f: Float[Tensor, "batch d_sae"], kept: Int[Tensor, " kept"]
) -> Float[Tensor, "batch both"]:
    """sum_j f_j d_j over the entries kept."""
    latents = kept % f.shape[1]
    starts = torch.searchsorted(kept, torch.arange(len(x), device=x.device) * f.shape[1])
    encoder, bias = state.weights["encoder"], state.weights["encoder_bias"]
    values = _Kept.apply(encoder, bias, x, f.flatten()[kept], latents, starts)
    return _bags(latents, state.weights["decoder"], starts, values)


def _bags(latents: Tensor, rows: Tensor, starts: Tensor, values: Tensor) -> Tensor:
    return nn.functional.embedding_bag(latents, rows, starts, mode="sum", per_sample_weights=values)


def _largest(scores: Float[Tensor, "batch d_sae"], count: int, guess: float) -> Int[Tensor, " kept"]:
    """Flat indices, ascending, of the `count` largest positive scores, or of all positive ones if there are fewer.

    Only those above `guess` are sorted, if they are enough.
    """
    flat = scores.flatten()
    above = (flat > guess).nonzero().squeeze(1)
    if len(above) < count and guess > 0:
        above = (flat > 0).nonzero().squeeze(1)
    if len(above) > count:
        above = above[flat[above].topk(count, sorted=False).indices.sort().values]
    return above


def _folded(
    state: _State,
    scales: Float[Tensor, " 2"],
    mean_norms: tuple[float, float],
    recipe: CrosscoderRecipe,
    point: HookPoint,
    name: str,
    made_from: dict[str, Any],
) -> Crosscoder:
    """The crosscoder of activations as they are: what they were multiplied by goes into the weights."""
    apart = {key: weight.detach().unflatten(-1, (2, -1)) for key, weight in state.weights.items() if weight.ndim == 2}
    scale = scales[:, None, None]
    return Crosscoder(
        name,
        point,
        encoders=apart["encoder"].transpose(0, 1) * scale,
        encoder_bias=state.weights["encoder_bias"].detach(),
        decoders=apart["decoder"].transpose(0, 1) / scale,
        decoder_biases=state.weights["decoder_bias"].detach().unflatten(0, (2, -1)) / scales[:, None],
        threshold=state.threshold,
        mean_norms=mean_norms,
        alive=state.idle < min(recipe.dead_after, recipe.steps),  # one never kept has been idle for all steps
        trained={**made_from, "fvu_of_last_batch": state.fvu[-1]},
    )
