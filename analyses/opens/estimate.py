"""What a run on a model of one's own would take, told before it: steps, passes, tokens, judge calls, memory."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from analyses.intervene import clamped_layers
from analyses.models import dtype_of
from analyses.opens.config import OpenConfig
from analyses.opens.judged import Judged
from analyses.opens.plan import plan
from analyses.study import Study
from interp.behavior.answers import OnAnswers, Sampling
from interp.behavior.cache import Cache
from interp.behavior.questions import Question
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.outline import load_outline
from interp.prompts import Messages, encode_prompt
from training.encoding import encode_rows
from training.lora import adapted_names, lora_config
from training.recipes import Recipe, batch_order

TRAINED_BYTES = 16
"""Of an adapter's parameter while it is trained: fp32 weight, gradient and AdamW's two moments."""

ACTIVATION_BYTES = 34
"""A token, of each of d_model, kept in a block for the backward pass in 16 bit, with attention that keeps no matrix of
scores (Korthikanti et al. 2022, 2205.05198); in fp32 twice as much."""


@dataclass(frozen=True)
class Stage:
    """A part of the run: forward passes over sequences (trained ones go backward as well), answers that are sampled and
    judged. All are upper bounds: what an answer's end, the cache or a matcher saves is not known before."""

    name: str
    sequences: int = 0
    prompt_tokens: int = 0
    answers: int = 0
    judgements: int = 0


@dataclass(frozen=True)
class Estimate:
    """`memory`: what lies in memory at the worst moment, in bytes by what it is; `available` on the device."""

    experiment: str
    model: str
    parameters: int
    steps: Mapping[str, int]
    stages: Sequence[Stage]
    new_tokens: int
    memory: Mapping[str, int]
    available: int
    device: str


class _Nobody:
    """Stands in for the model that judges, which an estimate has no need to load."""

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "nobody"}

    def answer(self, prompts: Sequence[Messages], sampling: Sampling, on_answers: OnAnswers) -> None:
        raise AnachronError("an estimate asks nobody")


def estimate(experiment: str, config: OpenConfig) -> Estimate:
    """Plan the run without weights. Errors: AnachronError as the run itself would raise while it is planned."""
    lm = load_outline(config.model, revision=config.revision, dtype=dtype_of(config.dtype))
    judged = config.judge_model is not None or config.judge_endpoint is not None
    with Cache() as cache:
        study = plan(experiment, config, lm, cache, _Nobody() if judged else None)
    assert isinstance(study.measure, Judged)  # `plan` makes it
    longest = max(len(e.targets) for rows in study.arms.values() for e in encode_rows(lm, rows))
    return Estimate(
        experiment,
        config.model,
        sum(p.numel() for p in lm.model.parameters()),
        {arm: len(batch_order(len(rows), config.recipe)) for arm, rows in study.arms.items()},
        [*_training(lm, study, config), _asking(lm, study, config), *_steering(lm, study, config)],
        config.max_new_tokens,
        _memory(lm, study, config, longest),
        *_device(config),
    )


def _training(lm: LanguageModel, study: Study, config: OpenConfig) -> list[Stage]:
    stages = []
    for arm, rows in study.arms.items():
        lengths = [len(example.targets) for example in encode_rows(lm, rows)]
        order = batch_order(len(rows), config.recipe)
        stages.append(
            Stage(
                f"fine-tune {arm}, {config.seeds} seeds",
                config.seeds * sum(len(batch) for batch in order),
                config.seeds * sum(lengths[i] for batch in order for i in batch),
            )
        )
    return stages


def _asking(lm: LanguageModel, study: Study, config: OpenConfig) -> Stage:
    models = 1 + len(study.arms) * config.seeds
    total = Stage("ask under every condition")
    for number, condition in enumerate(study.conditions):
        narrow = study.test.narrow if number == 0 else ()
        total = _plus(total, _asked(lm, study, condition.questions, narrow, condition.group, config, models))
    return total


def _steering(lm: LanguageModel, study: Study, config: OpenConfig) -> list[Stage]:
    layers = config.tried(lm.n_layers)
    models = 1 + len(study.arms) * config.seeds
    contrast = [*study.contrast.on, *study.contrast.off]
    located = Stage("locate", models * len(contrast), models * _prompt_tokens(lm, contrast))
    additions = 1 + len(layers) * len(config.positions) * len(config.coefficients)
    clamps = len(clamped_layers(layers, together=True))
    tuned = min(2, config.seeds) * (clamps + 1)
    validation, test, group = study.validation, study.test, study.test.group
    chosen = _asked(lm, study, validation.broad, (), group, config, additions + 1)
    chosen = _plus(chosen, _asked(lm, study, validation.broad, validation.narrow, group, config, tuned))
    # one dose is reported seed by seed, the others for the mean direction; random directions one by one at every dose
    doses = config.seeds + len(config.coefficients) - 1 + config.randoms * len(config.coefficients)
    reported = _asked(lm, study, test.broad, (), group, config, doses)
    reported = _plus(reported, _asked(lm, study, test.broad, test.narrow, group, config, 3 * config.seeds))
    return [located, _named("choose settings", chosen), _named("induce and suppress", reported)]


def _asked(
    lm: LanguageModel,
    study: Study,
    broad: Sequence[Question],
    narrow: Sequence[Question],
    group: str,
    config: OpenConfig,
    times: int,
) -> Stage:
    measure = study.measure
    assert isinstance(measure, Judged)
    habit = study.test.habit or group
    calls = len(broad) * ((group in measure.criteria) + (measure.coherent is not None))
    calls += len(narrow) * (habit in measure.criteria)
    each = times * config.samples
    questions = [*broad, *narrow]
    return Stage("", each * len(questions), each * _prompt_tokens(lm, questions), each * len(questions), each * calls)


def _prompt_tokens(lm: LanguageModel, questions: Sequence[Question]) -> int:
    return sum(len(encode_prompt(lm, question.messages).ids) for question in questions)


def _plus(a: Stage, b: Stage) -> Stage:
    return Stage(
        a.name,
        a.sequences + b.sequences,
        a.prompt_tokens + b.prompt_tokens,
        a.answers + b.answers,
        a.judgements + b.judgements,
    )


def _named(name: str, stage: Stage) -> Stage:
    return _plus(Stage(name), stage)


def _memory(lm: LanguageModel, study: Study, config: OpenConfig, longest: int) -> dict[str, int]:
    """Bytes by what holds them. Training and asking don't happen at once: the larger of the two counts."""
    per_weight = {"4bit": 0.55, "8bit": 1.05}  # with the scales of their blocks
    weights = sum(
        p.numel() * (per_weight[config.quantization] if config.quantization else p.element_size())
        for p in lm.model.parameters()
    )
    adapter = _adapter_parameters(lm, config.recipe)
    recipe = config.recipe
    rows = -(-recipe.batch_size // recipe.accumulate)
    wide = 1 if recipe.precision == "bfloat16" or lm.dtype != torch.float32 else 2
    block = rows * longest * lm.d_model * ACTIVATION_BYTES * wide
    kept = rows * longest * lm.d_model * 2 * wide * lm.n_layers + block if recipe.gradient_checkpointing else 0
    vocabulary = lm.model.get_output_embeddings().weight.shape[0]
    training = (kept or block * lm.n_layers) + rows * longest * vocabulary * 12  # logits: model's, fp32, gradient
    shape = lm.model.config
    heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    size = getattr(shape, "head_dim", None) or lm.d_model // shape.num_attention_heads
    asking = config.max_tokens * 2 * lm.n_layers * heads * size * lm.model.get_output_embeddings().weight.element_size()
    adapters = len(study.arms) * config.seeds * adapter * 4
    return {
        "weights": int(weights),
        "adapter in training": adapter * TRAINED_BYTES + training,
        "adapters and answers' cache": adapters + asking,
    }


def _adapter_parameters(lm: LanguageModel, recipe: Recipe) -> int:
    config = lora_config(lm, rank=recipe.rank, alpha=recipe.alpha, targets=recipe.targets, layers=recipe.layers)
    modules = dict(lm.model.named_modules())
    return sum(recipe.rank * sum(modules[path].weight.shape) for path in adapted_names(lm, modules, config))


def _device(config: OpenConfig) -> tuple[int, str]:
    """Bytes of memory there, and the device's name."""
    if config.device.startswith("cuda") or (config.device_map is not None and torch.cuda.is_available()):
        if not torch.cuda.is_available():
            raise AnachronError(f"device {config.device!r} can't be used: torch finds no CUDA here; use cpu")
        numbers = range(torch.cuda.device_count())
        one = [torch.device(config.device).index or 0] if config.device_map is None else numbers
        return sum(torch.cuda.mem_get_info(i)[1] for i in one), ", ".join(torch.cuda.get_device_name(i) for i in one)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine's memory"


def print_estimate(found: Estimate) -> None:
    """Tables of the stages and of memory."""
    from analyses.tables import print_table

    rows = [
        (s.name, f"{s.sequences:,}", f"{s.prompt_tokens:,}", f"{s.answers:,}", f"{s.judgements:,}")
        for s in found.stages
    ]
    total = found.stages[0]
    for stage in found.stages[1:]:
        total = _plus(total, stage)
    rows.append(
        ("all", f"{total.sequences:,}", f"{total.prompt_tokens:,}", f"{total.answers:,}", f"{total.judgements:,}")
    )
    print_table(
        f"{found.experiment} on {found.model} ({found.parameters / 1e6:,.1f} M parameters), at most",
        ("stage", "sequences", "prompt tokens", f"answers (to {found.new_tokens} tokens)", "judge calls"),
        rows,
    )
    print_table("optimiser steps a seed", ("", "steps"), list(found.steps.items()))
    weights = found.memory["weights"]
    peak = weights + max(size for name, size in found.memory.items() if name != "weights")
    sizes = [(name, f"{size / 1e9:.2f} GB") for name, size in found.memory.items()]
    fits = "fits" if peak < 0.9 * found.available else "does not fit with a margin of a tenth"
    sizes += [("peak", f"{peak / 1e9:.2f} GB"), (f"{found.device}: {fits}", f"{found.available / 1e9:.1f} GB")]
    print_table("memory", ("", "about"), sizes)
