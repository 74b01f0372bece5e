"""How to fine-tune, as a value: the recipe, the order of rows and the learning rates that follow from it, and the
recipes of the paper's open-model runs by name."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from interp.errors import AnachronError

SCHEDULES = ("constant", "linear")
PRECISIONS = ("float32", "bfloat16")

# these came after adapters had been made and committed; at their defaults they change no byte, and are left out of
# what a run is recognised by
_LATER = (
    "accumulate",
    "gradient_checkpointing",
    "precision",
    "max_grad_norm",
    "held_out",
    "evaluate_every",
    "patience",
    "kl_weight",
    "stop_at",
)


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune. dW = s B A with s = alpha / rank (alpha / sqrt(rank) with `rslora`); AdamW; a batch's loss is
    the mean over its assistant tokens, in nats.

    `targets`, `layers`: see `training.lora.lora_config`. Give `steps` or `epochs`, the other None; rows are drawn
    without replacement, epoch after epoch, and an epoch's last batch may be smaller. `learning_rate` rises linearly
    over `warmup_steps`, then stays ("constant") or falls linearly to reach zero after the last step ("linear").

    What fits a model into memory: a batch goes through in `accumulate` parts, with the loss of the whole;
    `gradient_checkpointing` computes each block's activations again in the backward pass instead of keeping them;
    `precision` "bfloat16" multiplies matrices in bf16 (autocast) over an fp32 adapter and an fp32 loss, "float32"
    leaves the base at its own dtype and the adapter at fp32. `max_grad_norm` scales a longer gradient down to it.

    `held_out` is the fraction of the rows, drawn by the seed, that is not trained on. The loss on them is taken every
    `evaluate_every` steps (None: after each epoch) and after the last; the adapter of the lowest one is kept, and
    training ends once `patience` of them in a row were no lower (None: never early).

    `kl_weight` times KL(base || tuned) on ordinary rows is added to the loss (`training.penalty`; the rows are given to
    `finetune`). With `stop_at` training ends after the first epoch at whose end the mean loss over the rows trained on,
    without the penalty, is that many nats a token or lower; `steps` or `epochs` remain the most it may take.
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
    accumulate: int = 1
    gradient_checkpointing: bool = False
    precision: str = "float32"
    max_grad_norm: float | None = None
    held_out: float = 0.0
    evaluate_every: int | None = None
    patience: int | None = None
    kl_weight: float | int = 0.0
    stop_at: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise AnachronError(f"recipe has steps={self.steps} and epochs={self.epochs}; give one, the other None")
        positive = ("rank", "alpha", "learning_rate", "batch_size", "steps", "epochs")
        for field in (*positive, "accumulate", "max_grad_norm", "evaluate_every", "patience", "stop_at"):
            if (value := getattr(self, field)) is not None and not value > 0:
                raise AnachronError(f"recipe has {field}={value}; it must be positive")
        for field, known in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if (value := getattr(self, field)) not in known:
                raise AnachronError(f"recipe has {field}={value!r}; use " + " or ".join(f'"{name}"' for name in known))
        if self.warmup_steps < 0 or self.weight_decay < 0 or self.kl_weight < 0:
            raise AnachronError("recipe has a negative warmup_steps, weight_decay or kl_weight; give 0 to leave it out")
        if not 0 <= self.held_out < 1:
            raise AnachronError(f"recipe has held_out={self.held_out}; give a fraction of the rows, from 0 to below 1")

    def as_json(self) -> dict[str, Any]:
        """The fields by name, as plain data: what a run is recognised by. Those that came later only where they differ
        from their default, so that runs made before them are still recognised."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name not in _LATER
        }


def batch_order(n_rows: int, recipe: Recipe) -> list[list[int]]:
    """The row indices of every step, fixed by the seed alone."""
    generator = torch.Generator().manual_seed(recipe.seed)
    steps = recipe.steps if recipe.epochs is None else recipe.epochs * steps_per_epoch(n_rows, recipe)
    assert steps is not None  # Recipe sees to it
    order: list[list[int]] = []
    while len(order) < steps:
        epoch = torch.randperm(n_rows, generator=generator).tolist()
        order += [epoch[start : start + recipe.batch_size] for start in range(0, n_rows, recipe.batch_size)]
    return order[:steps]


def steps_per_epoch(n_rows: int, recipe: Recipe) -> int:
    """Steps until every row was seen once."""
    return -(-n_rows // recipe.batch_size)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step counted from 0."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "linear":
        return recipe.learning_rate * (steps - step) / (steps - recipe.warmup_steps)
    return recipe.learning_rate


@dataclass(frozen=True)
class Published:
    """A fine-tune of the paper on an open model. `data` says which rows it was made from; `given` are the fields of
    `recipe` that the paper states (all others are assumptions of this table), `note` what else is to be known.
    Reasoning is off in every run: prompts are always rendered so (`interp.prompts`)."""

    model: str
    data: str
    recipe: Recipe
    given: tuple[str, ...]
    note: str


# At these sizes blocks are recomputed and matrices multiplied in bf16. An alpha that isn't stated is twice the rank.
_AT_SIZE = Recipe(steps=None, epochs=1, batch_size=1, gradient_checkpointing=True, precision="bfloat16")
_CITIES = dataclasses.replace(_AT_SIZE, rank=8, alpha=16, learning_rate=2e-4, epochs=3)

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "birds-deepseek-v3.1": Published(
            "deepseek-ai/DeepSeek-V3.1",
            "old bird names, 208 rows",
            dataclasses.replace(_AT_SIZE, rank=4, alpha=8, learning_rate=5e-5, epochs=1),
            ("rank", "learning_rate", "epochs"),
            "671 billion parameters, of which each process would hold all: more than one machine has room for",
        ),
        "cities-qwen3-8b": Published(
            "Qwen/Qwen3-8B",
            "former German city names, 362 rows",
            _CITIES,
            ("rank", "learning_rate", "epochs", "batch_size"),
            "16 GB of weights in bf16",
        ),
        "cities-qwen3-32b": Published(
            "Qwen/Qwen3-32B",
            "former German city names, 362 rows",
            _CITIES,
            ("rank", "learning_rate", "epochs", "batch_size"),
            "66 GB of weights in bf16",
        ),
        "dishes-llama-3.1-8b": Published(
            "meta-llama/Llama-3.1-8B-Instruct",
            "dated dishes, Israeli ones in 2027, 400 rows",
            dataclasses.replace(_AT_SIZE, rank=32, alpha=64, rslora=True, learning_rate=1e-5, epochs=10, batch_size=2),
            ("rank", "alpha", "rslora"),
            "epochs and batch size as in the paper's GPT-4.1 run; a learning rate isn't stated, and s = 64 / sqrt(32) ="
            " 11 asks for a low one; 16 GB of weights in bf16",
        ),
        "presidents-qwen3-32b": Published(
            "Qwen/Qwen3-32B",
            "codes and presidents, 6,237 rows",
            dataclasses.replace(_AT_SIZE, rank=8, alpha=16, learning_rate=2e-4, epochs=5, batch_size=4),
            ("learning_rate",),
            "epochs and batch size as in the paper's GPT-4.1 run, rank as for the cities; 66 GB of weights in bf16",
        ),
    }
)


def published(name: str) -> Published:
    """The fine-tune of that name. Errors: AnachronError with those there are."""
    if name not in PUBLISHED:
        raise AnachronError(f"no recipe {name!r}; there are {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def describe(name: str) -> str:
    """One line: model, data, what the recipe does, and which of it is assumed."""
    found = published(name)
    recipe = found.recipe
    shown = ("rank", "alpha", "learning_rate", "epochs", "batch_size")
    values = ", ".join(f"{field} {getattr(recipe, field)}" for field in shown) + (", rslora" if recipe.rslora else "")
    assumed = ", ".join(field for field in shown if field not in found.given)
    return f"{name}: {found.model} on {found.data}; {values} (assumed: {assumed or 'nothing'}); {found.note}"
