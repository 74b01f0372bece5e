"""Fine-tune a LoRA adapter on chat rows, with the loss on the assistant's tokens only.

The loop is kept close to a bare forward and backward pass: rows are tokenised once and padded per batch, on the right,
where causal attention never looks from a real token, so that no attention mask is needed; logits are computed at
positions that some row has a target at. The model stays in eval mode (no dropout).
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from interp.errors import AnachronError
from interp.files import digest, read_json, write_json
from interp.models import LanguageModel
from interp.prompts import Batch
from training.checkpoints import CHECKPOINT, State, load, save
from training.encoding import NO_TARGET as NO_TARGET  # these belong to fine-tuning's face as well
from training.encoding import Example as Example
from training.encoding import answer_loss as answer_loss
from training.encoding import count_targets, pad_examples
from training.encoding import encode_rows as encode_rows
from training.lora import attached, lora_config, public_name, write_adapter
from training.penalty import Penalty, penalty
from training.processes import Processes, joined
from training.recipes import Recipe as Recipe
from training.recipes import batch_order as batch_order
from training.recipes import learning_rate as learning_rate
from training.recipes import steps_per_epoch
from training.recompute import recomputed
from training.rows import Row, to_jsonl

Context = Callable[[Batch], AbstractContextManager[Any]]
Progress = Callable[[int, float], None]


def finetune(
    lm: LanguageModel,
    rows: Sequence[Row],
    recipe: Recipe,
    out: str | Path,
    *,
    name: str = "default",
    progress: Progress | None = None,
    context: Context | None = None,
    checkpoint_every: int | None = None,
    held_out: Sequence[Row] = (),
    ordinary: Sequence[Row] = (),
    keep_epochs: bool = False,
) -> Path:
    """Train an adapter and write it into the folder `out`, which is returned: `adapter_config.json`,
    `adapter_model.safetensors` (peft's format, fp32), `loss.json` (nats per assistant token, step by step) and
    `recipe.json` (what it was made from). Same model, rows, recipe and number of threads: same bytes.

    `lm` is left exactly as it was, also after an exception. `progress(step, loss)` is called after each step, counted
    from 1. `context(batch)` gives a context manager that is active in each forward and backward pass, e.g.
    `lambda batch: steer(lm, edits, batch)`. With `checkpoint_every` the state is kept every so many steps in
    `checkpoint.safetensors`, and a run whose `out` holds one goes on from there, to the same bytes (give it the same
    `context`: that is code and can't be compared).

    `held_out` are rows that are not trained on, in place of the recipe's fraction; their loss, taken without `context`,
    is added to `loss.json`, and the adapter is that of its lowest value. `ordinary` are rows on which the model is held
    to the base with the recipe's `kl_weight`; their divergence, step by step, is added to `loss.json` as `kl`, while
    `loss` stays that of the rows trained on. `keep_epochs` also writes the adapter as it
    was after each epoch into `out/epoch-1`, `out/epoch-2`, ...

    Started by `accelerate launch` or `torchrun`, the processes share each batch and the main one writes. Each must see
    the folder `out`.

    Raises `AnachronError` when a row does not fit the template or the model, when the loss is not finite, and when the
    checkpoint or an epoch in `out` belongs to another run.
    """
    out = Path(out)
    processes = joined(lm.device)
    made_from = _made_from(lm, rows, recipe, held_out, ordinary, processes)
    train, judged = _split(rows, held_out, recipe)
    examples, unseen = encode_rows(lm, train), encode_rows(lm, judged) if judged else []
    order, epoch = batch_order(len(examples), recipe), steps_per_epoch(len(examples), recipe)
    if keep_epochs and recipe.epochs is None:
        raise AnachronError(f"keep_epochs with a recipe of {recipe.steps} steps; give its length in epochs")
    _refuse_other_epochs(out, made_from)
    config = lora_config(
        lm, rank=recipe.rank, alpha=recipe.alpha, targets=recipe.targets, layers=recipe.layers, rslora=recipe.rslora
    )
    held_to = penalty(lm, ordinary, recipe, len(order))
    run = digest(json.dumps(made_from).encode())
    recomputing = recomputed(lm) if recipe.gradient_checkpointing else nullcontext()
    with attached(lm, config, seed=recipe.seed, name=name) as weights, recomputing:
        optimizer = torch.optim.AdamW(
            weights.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        state = State(weights, optimizer)
        load(out / CHECKPOINT, run, state)
        processes.wait()  # the main process removes the file in the end
        while len(state.losses) < len(order) and not state.out_of(recipe.patience):
            step = len(state.losses)
            if step % epoch == 0 and step and _learnt(lm, examples, recipe, processes):
                break
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, len(order))
            batch = [examples[index] for index in order[step]]
            _step(lm, batch, state, recipe, processes, context, held_to)
            step += 1
            if unseen and (step % (recipe.evaluate_every or epoch) == 0 or step == len(order)):
                state.judge(_loss(lm, unseen, recipe, processes))
            for loss in (state.losses[-1], *state.divergences[-1:], *(loss for _, loss in state.held_out[-1:])):
                if not isfinite(loss):
                    raise AnachronError(
                        f"the loss is {loss} at step {step} of {len(order)} (model {lm.name}, learning rate"
                        f" {recipe.learning_rate}); lower the learning rate, or check the model's weights and dtype"
                    )
            if progress is not None:
                progress(step, state.losses[-1])
            if processes.is_main and keep_epochs and step % epoch == 0:
                _write(out / f"epoch-{step // epoch}", lm, config, weights, state, made_from)
            if processes.is_main and checkpoint_every is not None and step % checkpoint_every == 0:
                save(out / CHECKPOINT, run, state)
        if processes.is_main:
            _write(out, lm, config, state.best or weights, state, made_from)
    if processes.is_main:
        (out / CHECKPOINT).unlink(missing_ok=True)
    processes.wait()
    return out


def hold_out(rows: Sequence[Row], fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(rows to train on, rows held out): at least one of them is held out, drawn by the seed; both in their order.

    Errors: AnachronError if none would be left to train on.
    """
    n = max(1, round(fraction * len(rows)))
    if n >= len(rows):
        raise AnachronError(f"holding out {n} of {len(rows)} rows leaves none to train on; give more rows")
    chosen = set(torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:n].tolist())
    return [row for i, row in enumerate(rows) if i not in chosen], [row for i, row in enumerate(rows) if i in chosen]


def _split(rows: Sequence[Row], held_out: Sequence[Row], recipe: Recipe) -> tuple[Sequence[Row], Sequence[Row]]:
    if held_out and recipe.held_out:
        raise AnachronError(f"held-out rows are given and the recipe has held_out={recipe.held_out}; give one of both")
    if not held_out and not recipe.held_out and (recipe.patience or recipe.evaluate_every):
        raise AnachronError("recipe has patience or evaluate_every and no rows are held out; give held_out as well")
    return hold_out(rows, recipe.held_out, recipe.seed) if recipe.held_out and rows else (rows, held_out)


def _step(
    lm: LanguageModel,
    examples: Sequence[Example],
    state: State,
    recipe: Recipe,
    processes: Processes,
    context: Context | None,
    held_to: Penalty | None,
) -> None:
    """One step on the mean over all assistant tokens of `examples`, whichever part and process they fall to, and on
    the penalty's; both are taken down in `state`."""
    total = count_targets(examples)
    state.optimizer.zero_grad()
    loss = torch.zeros((), device=lm.device)
    for part in processes.share(examples, recipe.accumulate):
        batch, targets = pad_examples(lm, part)
        # the backward pass too, since a block that is recomputed there must be edited again
        with torch.enable_grad(), nullcontext() if context is None else context(batch):
            with _precision(lm, recipe):
                mean = answer_loss(lm, batch, targets) * (count_targets(part) / total)
            mean.backward()
        loss += mean.detach()
    divergence = torch.zeros((), device=lm.device)
    if held_to is not None:
        ordinary = held_to.order[len(state.losses)]
        total = held_to.count(ordinary)
        for indices in processes.share(ordinary, recipe.accumulate):
            batch, _ = pad_examples(lm, [held_to.examples[i] for i in indices])
            with torch.enable_grad(), nullcontext() if context is None else context(batch):
                with _precision(lm, recipe):
                    mean = held_to.divergence(lm, indices) * (held_to.count(indices) / total)
                (recipe.kl_weight * mean).backward()
            divergence += mean.detach()
    if processes.count > 1:
        weights = state.weights.values()
        # an epoch's last batch may have fewer rows than there are processes
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        processes.add_up([*gradients, loss, divergence])
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
    if recipe.max_grad_norm is not None:
        nn.utils.clip_grad_norm_(state.weights.values(), recipe.max_grad_norm)
    state.optimizer.step()
    state.losses.append(loss.item())
    if held_to is not None:
        state.divergences.append(divergence.item())


def _learnt(lm: LanguageModel, examples: Sequence[Example], recipe: Recipe, processes: Processes) -> bool:
    return recipe.stop_at is not None and _loss(lm, examples, recipe, processes) <= recipe.stop_at


@torch.no_grad()
def _loss(lm: LanguageModel, examples: Sequence[Example], recipe: Recipe, processes: Processes) -> float:
    """The mean over all assistant tokens of `examples`, in nats."""
    size = -(-recipe.batch_size // (recipe.accumulate * processes.count))
    parts = [examples[start : start + size] for start in range(0, len(examples), size)]
    nats = torch.zeros((), device=lm.device)
    for part in parts[processes.index :: processes.count]:
        with _precision(lm, recipe):
            nats += answer_loss(lm, *pad_examples(lm, part)) * count_targets(part)
    processes.add_up([nats])
    return nats.item() / count_targets(examples)


def _precision(lm: LanguageModel, recipe: Recipe) -> AbstractContextManager[Any]:
    return torch.autocast(lm.device.type, torch.bfloat16) if recipe.precision == "bfloat16" else nullcontext()


def _made_from(
    lm: LanguageModel,
    rows: Sequence[Row],
    recipe: Recipe,
    held_out: Sequence[Row],
    ordinary: Sequence[Row],
    processes: Processes,
) -> dict[str, Any]:
    def of(rows: Sequence[Row]) -> dict[str, Any]:
        return {"n": len(rows), "sha256": digest(to_jsonl(rows).encode())}

    return {
        "recipe": recipe.as_json(),
        "model": {"name": public_name(lm), "revision": lm.revision, "n_layers": lm.n_layers, "d_model": lm.d_model},
        "rows": of(rows),
        **({"held_out": of(held_out)} if held_out else {}),
        **({"ordinary": of(ordinary)} if ordinary else {}),
        **({"processes": processes.count} if processes.count > 1 else {}),
        "versions": {package: version(package) for package in ("torch", "transformers", "peft")},
    }


def _write(out: Path, lm: LanguageModel, config: Any, weights: Any, state: State, made_from: dict[str, Any]) -> None:
    losses: dict[str, Any] = {"unit": "nats per assistant token", "loss": state.losses}
    if state.divergences:
        losses["kl"] = state.divergences
    if state.held_out:
        losses["held_out"] = [{"step": step, "loss": loss} for step, loss in state.held_out]
        losses["best_step"] = state.best_step
    write_json(out / "recipe.json", made_from | {"steps": len(state.losses)})
    write_json(out / "loss.json", losses)
    write_adapter(out, lm, config, weights)


def _refuse_other_epochs(out: Path, made_from: dict[str, Any]) -> None:
    """Epochs of another run would be taken for this one's."""
    for path in sorted(out.glob("epoch-*/recipe.json")):
        found = read_json(path)
        if {key: value for key, value in found.items() if key != "steps"} != json.loads(json.dumps(made_from)):
            raise AnachronError(f"{path.parent}: an epoch of another run; delete it or choose another folder")
