"""Train an SAE on activations of a model, by sae-lens (https://github.com/decoderesearch/SAELens).

Activations come from `interp.capture`, a block of documents at a time, and are not kept on disk: which of them are in
which batch follows from corpus, recipe and the number of the step.
"""

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.dictionaries.sae import write_sae
from interp.dictionaries.weights import Sae
from interp.errors import AnachronError
from interp.files import read_json, write_json
from interp.hooks import HookPoint, require_points
from interp.models import LanguageModel
from interp.positions import ALL, Positions
from training.activations import Rows
from training.corpus import Corpus
from training.lora import public_name
from training.sae_recipes import SaeRecipe, untrained

RECORD = "training.json"  # written last: the mark of a finished run
_CHECKPOINT, _PLACE = "checkpoint-", "place.json"
_CURVE = 200  # steps of which fvu and l0 are kept

Progress = Callable[[int, float, float], None]


def train_sae(
    lm: LanguageModel,
    corpus: Corpus,
    point: HookPoint,
    recipe: SaeRecipe,
    out: str | Path,
    *,
    positions: Positions = ALL,
    progress: Progress | None = None,
    checkpoint_every: int | None = None,
) -> Path:
    """Train, and write into the folder `out`, which is returned: an SAE in sae-lens's format and `training.json` (what
    it was made from; fvu and l0 of training batches). Same model, corpus, recipe and number of threads: same bytes.

    The scale of the activations is folded into the weights and the decoder's rows are of unit norm, so a latent's
    activation is in residual-stream units. `progress(step, fvu, l0)` is called after each step, counted from 1, with
    figures of its batch. With `checkpoint_every` the state is kept every so many steps, and a run whose `out` holds
    one goes on from there, to the same bytes.

    Errors: AnachronError if `out` holds a finished run or a checkpoint of another one, for a point that the model
    lacks, for a corpus too small for a batch, and when the loss is not finite.
    """
    require_points(lm, [point])
    out = Path(out)
    if (out / RECORD).exists():
        raise AnachronError(f"{out}: holds a finished run; choose another folder or remove it")
    made_from = _made_from(lm, corpus, point, recipe, positions)
    rows = Rows(lm, corpus, point, positions, recipe.batch_size, recipe.seed)
    trainer = _trainer(lm, recipe, rows)
    curve = _resume(out, made_from, trainer, rows)
    every = -(-recipe.steps // _CURVE)
    while trainer.n_training_steps < recipe.steps:
        found = trainer.step(next(rows))
        trainer.n_training_steps += 1
        step, loss = trainer.n_training_steps, float(found.loss.detach())
        if not isfinite(loss):
            raise AnachronError(
                f"the loss is {loss} at step {step} of {recipe.steps} (learning rate {recipe.learning_rate}); lower "
                "the learning rate, or look for activations that aren't finite"
            )
        fvu, l0 = _quality(found)
        if progress is not None:
            progress(step, fvu, l0)
        if step % every == 0:
            curve.append({"step": step, "fvu": round(fvu, 5), "l0": round(l0, 3)})
        if checkpoint_every is not None and step % checkpoint_every == 0 and step < recipe.steps:
            _checkpoint(out, made_from, trainer, rows, curve)
    sae = _finished(trainer, public_name(lm), point)
    details = trainer.sae.cfg.get_inference_sae_cfg_dict()["metadata"]
    metadata = {"model_name": public_name(lm), **details, "trained_on": made_from}
    write_sae(sae, out, metadata, getattr(torch, recipe.stored))
    write_json(out / RECORD, made_from | {"curve": curve})
    for left in out.glob(f"*{_CHECKPOINT}*"):
        shutil.rmtree(left)
    return out


def _made_from(
    lm: LanguageModel, corpus: Corpus, point: HookPoint, recipe: SaeRecipe, positions: Positions
) -> dict[str, Any]:
    return {
        "model": {"name": public_name(lm), "revision": lm.revision, "d_model": lm.d_model},
        "adapter": None if lm.adapter is None else asdict(lm.adapter),
        "point": str(point),
        "positions": positions.name,
        "corpus": dict(corpus.about),
        "recipe": asdict(recipe) | {"widths": list(recipe.widths)},
        "versions": {package: version(package) for package in ("torch", "transformers", "sae-lens")},
    }


def _trainer(lm: LanguageModel, recipe: SaeRecipe, rows: Rows) -> Any:
    """sae-lens's trainer, ready for its first step."""
    from sae_lens import SAETrainer
    from sae_lens.config import SAETrainerConfig

    first = rows.block(0)
    scale = lm.d_model**0.5 / float(first.norm(dim=1).mean())
    sae = untrained(recipe, lm.d_model)
    _start_from(sae, first * scale, recipe.seed)
    config = SAETrainerConfig(
        total_training_samples=recipe.steps * recipe.batch_size,
        train_batch_size_samples=recipe.batch_size,
        lr=recipe.learning_rate,
        lr_end=recipe.learning_rate,
        lr_warm_up_steps=round(recipe.warmup * recipe.steps),
        lr_decay_steps=round(recipe.decay * recipe.steps),
        dead_feature_window=recipe.dead_after,
        autocast=recipe.precision == "bfloat16",
        device=str(lm.device),
    )
    trainer = SAETrainer(config, sae.to(lm.device), rows)
    trainer.activation_scaler.scaling_factor = scale
    return trainer


@torch.no_grad()
def _start_from(sae: Any, rows: Float[Tensor, "rows d_model"], seed: int) -> None:
    """Decoder: directions of activations drawn at random, less their mean, which is its bias. Encoder: the transpose.

    The random start is mixed in, so that latents which drew the same activation (the first token's) differ.
    """
    d_sae = sae.cfg.d_sae
    generator = torch.Generator().manual_seed(seed)
    passes = -(-d_sae // len(rows))
    drawn = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(passes)])[:d_sae]
    mean = rows.mean(dim=0)
    unit = torch.nn.functional.normalize
    sae.W_dec.copy_(unit(unit(rows[drawn] - mean, dim=1) + 0.1 * unit(sae.W_dec, dim=1), dim=1))
    sae.W_enc.copy_(sae.W_dec.T)
    sae.b_dec.copy_(mean)


@torch.no_grad()
def _quality(found: Any) -> tuple[float, float]:
    """fvu and l0 of a training batch."""
    error = (found.sae_out - found.sae_in).square().sum()
    total = (found.sae_in - found.sae_in.mean(dim=0)).square().sum()
    return float(error / total), float((found.feature_acts > 0).sum() / len(found.sae_in))


@torch.no_grad()
def _finished(trainer: Any, model: str, point: HookPoint) -> Sae:
    """The trained SAE as weights, with the activations' scale and the decoder's norms folded in."""
    sae = trainer.sae
    sae.fold_activation_norm_scaling_factor(trainer.activation_scaler.scaling_factor)
    if sae.cfg.architecture() in ("standard", "jumprelu"):
        sae.fold_W_dec_norm()
    state = {name: tensor.detach().clone() for name, tensor in sae.state_dict().items()}
    sae.process_state_dict_for_saving_inference(state)  # folds the norms of the others
    return Sae(
        name=f"{model}.{point}",
        point=point,
        activation={"standard": "relu", "topk": "topk"}.get(sae.cfg.architecture(), "jumprelu"),
        W_enc=state["W_enc"],
        b_enc=state["b_enc"],
        W_dec=state["W_dec"],
        b_dec=state["b_dec"],
        threshold=state.get("threshold"),
        k=sae.cfg.k if sae.cfg.architecture() == "topk" else None,
        apply_b_dec_to_input=sae.cfg.apply_b_dec_to_input,
    )


def _checkpoint(out: Path, made_from: dict[str, Any], trainer: Any, rows: Rows, curve: list[dict[str, Any]]) -> None:
    """The trainer's state in a folder of its own, which takes its name once it is whole; older ones go."""
    name = f"{_CHECKPOINT}{trainer.n_training_steps:08d}"
    part = f".{name}-{os.getpid()}-{secrets.token_hex(4)}"
    trainer.save_checkpoint(part, out)
    write_json(out / part / _PLACE, {"made_from": made_from, "place": list(rows.place), "curve": curve})
    os.replace(out / part, out / name)
    for old in sorted(out.glob(f"{_CHECKPOINT}*"))[:-1]:
        shutil.rmtree(old)


def _resume(out: Path, made_from: dict[str, Any], trainer: Any, rows: Rows) -> list[dict[str, Any]]:
    """Put the latest checkpoint's state into trainer and stream; the curve so far, empty without a checkpoint."""
    found = sorted(out.glob(f"{_CHECKPOINT}*"))
    if not found:
        return []
    kept = read_json(found[-1] / _PLACE)
    if kept["made_from"] != made_from:
        raise AnachronError(
            f"{found[-1]}: the checkpoint of a run with another model, corpus, point, recipe or versions; delete it or "
            "choose another folder"
        )
    trainer.sae.load_weights_from_checkpoint(found[-1])
    trainer.load_trainer_state(found[-1])
    rows.place = tuple(kept["place"])
    return kept["curve"]
