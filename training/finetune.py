"""Fine-tune a LoRA adapter on chat rows, with the loss on the assistant's tokens only.

The loop is kept close to a bare forward and backward pass: rows are tokenised once and padded per batch, on the right,
where causal attention never looks from a real token, so that no attention mask is needed; logits are computed at
positions that some row has a target at. The model stays in eval mode (no dropout).
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import AnachronError
from interp.files import digest, load_tensors, save_tensors, write_json
from interp.models import LanguageModel
from interp.prompts import Batch, Encoded, encode_chat, pad
from training.lora import attached, lora_config, public_name, write_adapter
from training.rows import Row, to_jsonl

Context = Callable[[Batch], AbstractContextManager[Any]]
Progress = Callable[[int, float], None]

NO_TARGET = -100  # what torch's cross entropy leaves out


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune. dW = s B A with s = alpha / rank (alpha / sqrt(rank) with `rslora`); AdamW; a batch's loss is
    the mean over its assistant tokens, in nats.

    `targets`, `layers`: see `training.lora.lora_config`. Give `steps` or `epochs`, the other None; rows are drawn
    without replacement, epoch after epoch, and an epoch's last batch may be smaller. `learning_rate` rises linearly
    over `warmup_steps`, then stays ("constant") or falls linearly to reach zero after the last step ("linear").
    """

    rank: int = 4
    alpha: float | int = 8
    targets: str | tuple[str, ...] = "all-linear"
    layers: tuple[int, ...] | None = None
    rslora: bool = False
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: str = "constant"
    steps: int | None = 40
    epochs: int | None = None
    batch_size: int = 36
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise AnachronError(f"recipe has steps={self.steps} and epochs={self.epochs}; give one, the other None")
        for field in ("rank", "alpha", "learning_rate", "batch_size", "steps", "epochs"):
            if (value := getattr(self, field)) is not None and not value > 0:
                raise AnachronError(f"recipe has {field}={value}; it must be positive")
        if self.schedule not in ("constant", "linear"):
            raise AnachronError(f'recipe has schedule={self.schedule!r}; use "constant" or "linear"')
        if self.warmup_steps < 0 or self.weight_decay < 0:
            raise AnachronError("recipe has a negative warmup_steps or weight_decay; give 0 to leave it out")


@dataclass(frozen=True)
class Example:
    """A tokenised row. `targets[i]` is the token that position i is to predict, `NO_TARGET` where there is none."""

    encoded: Encoded
    targets: tuple[int, ...]


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
) -> Path:
    """Train an adapter and write it into the folder `out`, which is returned: `adapter_config.json`,
    `adapter_model.safetensors` (peft's format, fp32), `loss.json` (nats per assistant token, step by step) and
    `recipe.json` (what it was made from). Same model, rows, recipe and number of threads: same bytes.

    `lm` is left exactly as it was, also after an exception. `progress(step, loss)` is called after each step, counted
    from 1. `context(batch)` gives a context manager that is active in each forward pass, e.g.
    `lambda batch: steer(lm, edits, batch)`. With `checkpoint_every` the state is kept every so many steps in
    `checkpoint.safetensors`, and a run whose `out` holds one goes on from there, to the same bytes (give it the same
    `context`: that is code and can't be compared).

    Raises `AnachronError` when a row does not fit the template or the model, when the loss is not finite, and when the
    checkpoint in `out` belongs to another run.
    """
    out = Path(out)
    examples = encode_rows(lm, rows)
    order = batch_order(len(rows), recipe)
    config = lora_config(
        lm, rank=recipe.rank, alpha=recipe.alpha, targets=recipe.targets, layers=recipe.layers, rslora=recipe.rslora
    )
    made_from = _made_from(lm, rows, recipe)
    run = digest(json.dumps(made_from).encode())
    with attached(lm, config, seed=recipe.seed, name=name) as weights:
        optimizer = torch.optim.AdamW(
            weights.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        losses = _load_checkpoint(out / CHECKPOINT, run, weights, optimizer)
        for step in range(len(losses), len(order)):
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, len(order))
            losses.append(_step(lm, [examples[index] for index in order[step]], optimizer, context))
            if not isfinite(losses[-1]):
                raise AnachronError(
                    f"the loss is {losses[-1]} at step {step + 1} of {len(order)} (model {lm.name}, learning rate"
                    f" {recipe.learning_rate}); lower the learning rate, or check the model's weights and dtype"
                )
            if progress is not None:
                progress(step + 1, losses[-1])
            if checkpoint_every is not None and (step + 1) % checkpoint_every == 0:
                _save_checkpoint(out / CHECKPOINT, run, weights, optimizer, losses)
        write_json(out / "recipe.json", made_from | {"steps": len(order)})
        write_json(out / "loss.json", {"unit": "nats per assistant token", "loss": losses})
        write_adapter(out, lm, config, weights)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return out


def encode_rows(lm: LanguageModel, rows: Sequence[Row]) -> list[Example]:
    """Tokenise rows; the targets are the tokens of every assistant turn, its end token among them.

    Where a turn begins and ends comes from rendering the conversation up to it, and each such part must be a prefix of
    the whole, token by token. A template that rewrites earlier turns raises `AnachronError` with the row's number, as
    do rows that are too long for the model, and no rows at all.
    """
    if not rows:
        raise AnachronError("there are no rows to train on; give at least one")
    longest = getattr(lm.model.config, "max_position_embeddings", None)
    examples = []
    for number, row in enumerate(rows, start=1):
        try:
            example = _encode_row(lm, row)
        except AnachronError as error:
            raise AnachronError(f"row {number}: {error}") from error
        if longest is not None and len(example.targets) > longest:
            raise AnachronError(
                f"row {number} has {len(example.targets)} tokens and {lm.name} takes {longest}; shorten or drop it"
            )
        examples.append(example)
    return examples


def batch_order(n_rows: int, recipe: Recipe) -> list[list[int]]:
    """The row indices of every step, fixed by the seed alone."""
    generator = torch.Generator().manual_seed(recipe.seed)
    per_epoch = -(-n_rows // recipe.batch_size)
    steps = recipe.steps if recipe.epochs is None else recipe.epochs * per_epoch
    assert steps is not None  # Recipe sees to it
    order: list[list[int]] = []
    while len(order) < steps:
        epoch = torch.randperm(n_rows, generator=generator).tolist()
        order += [epoch[start : start + recipe.batch_size] for start in range(0, n_rows, recipe.batch_size)]
    return order[:steps]


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step counted from 0."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "linear":
        return recipe.learning_rate * (steps - step) / (steps - recipe.warmup_steps)
    return recipe.learning_rate


def answer_loss(lm: LanguageModel, batch: Batch, targets: Int[Tensor, "batch pos"]) -> Float[Tensor, ""]:
    """-log P(target) in nats, averaged over the batch's targets, in fp32. `batch` is padded on the right."""
    columns = (targets != NO_TARGET).any(0).nonzero().squeeze(1)
    logits = lm.model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=columns).logits
    targets = targets[:, columns]
    kept = targets != NO_TARGET
    return nn.functional.cross_entropy(logits[kept].float(), targets[kept])


def _encode_row(lm: LanguageModel, row: Row) -> Example:
    whole = encode_chat(lm, row.messages)
    targets = [NO_TARGET] * len(whole.ids)
    for turn, message in enumerate(row.messages):
        if message["role"] != "assistant":
            continue
        part = encode_chat(lm, row.messages[: turn + 1])
        if part.ids != whole.ids[: len(part.ids)]:
            raise AnachronError(
                f"the chat template of {lm.name} writes message {turn + 1} differently once the conversation goes on;"
                " split the row into conversations of one assistant turn"
            )
        targets[part.prompt_len - 1 : len(part.ids) - 1] = part.ids[part.prompt_len :]
    return Example(whole, tuple(targets))


def _step(
    lm: LanguageModel, examples: Sequence[Example], optimizer: torch.optim.Optimizer, context: Context | None
) -> float:
    batch = pad([example.encoded for example in examples], lm.pad_id, side="right", device=lm.device)
    width = batch.input_ids.shape[1]
    padded = [example.targets + (NO_TARGET,) * (width - len(example.targets)) for example in examples]
    with torch.enable_grad(), nullcontext() if context is None else context(batch):
        loss = answer_loss(lm, batch, torch.tensor(padded, device=lm.device))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _made_from(lm: LanguageModel, rows: Sequence[Row], recipe: Recipe) -> dict[str, Any]:
    return {
        "recipe": dataclasses.asdict(recipe),
        "model": {"name": public_name(lm), "revision": lm.revision, "n_layers": lm.n_layers, "d_model": lm.d_model},
        "rows": {"n": len(rows), "sha256": digest(to_jsonl(rows).encode())},
        "versions": {package: version(package) for package in ("torch", "transformers", "peft")},
    }


CHECKPOINT = "checkpoint.safetensors"


def _save_checkpoint(
    path: Path,
    run: str,
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    losses: Sequence[float],
) -> None:
    # the order of the rows and the learning rate follow from seed and step, so no random state has to be kept
    tensors = {f"weight/{key}": weight.detach() for key, weight in weights.items()}
    for key, weight in weights.items():
        for entry, value in optimizer.state[weight].items():
            tensors[f"{entry}/{key}"] = value
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    save_tensors(path, tensors, {"run": run})


def _load_checkpoint(
    path: Path, run: str, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> list[float]:
    if not path.exists():
        return []
    tensors, metadata = load_tensors(path)
    if metadata["run"] != run:
        raise AnachronError(
            f"{path}: the checkpoint of a run with another model, recipe, rows or versions; delete it or choose another"
            " folder"
        )
    state = {
        index: {entry: tensors[f"{entry}/{key}"] for entry in ("step", "exp_avg", "exp_avg_sq")}
        for index, key in enumerate(weights)
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with torch.no_grad():
        for key, weight in weights.items():
            weight.copy_(tensors[f"weight/{key}"])
    return tensors["losses"].tolist()
