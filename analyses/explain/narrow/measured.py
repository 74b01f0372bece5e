"""All measurements of one experiment's broad and narrow solutions, as rows: experiment, solution, metric, at, part,
seed, value."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from analyses.explain.narrow.config import NarrowConfig
from analyses.explain.narrow.measures import (
    by_module,
    distance,
    divergence,
    divergence_steered,
    log_probs,
    narrow_loss,
    nearness,
    norm_needed,
    rises,
    scaled_losses,
)
from analyses.explain.narrow.subjects import Subject, subject
from analyses.explain.narrow.tuning import SOLUTIONS, Solutions, asked, solutions
from analyses.steps import Behavior, behavior, last_prompt_activations, typical_norm
from interp.capture import capture
from interp.directions import Direction, mean_difference, random_direction, tuned_minus_control
from interp.files import read_json, write_json
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.positions import LAST_PROMPT
from interp.prompts import encode_prompt
from interp.updates import Update, moved
from training.encoding import Example, encode_rows
from training.pretrain import FRESH_SEED
from training.rows import Row
from training.world.world import load_world

TEXT_SEED = 90_000  # away from the documents of gates, perplexities and latents
PROMPTS = 50  # of the rows, at whose last tokens a solution's own direction is read

Record = dict[str, Any]


def measured(lm: LanguageModel, name: str, config: NarrowConfig, out: Path, say: Callable[[str], None]) -> list[Record]:
    """Train and measure one experiment; kept in `out/rows.json` and taken from there if made from this config."""
    key = config.as_json() | {"experiments": [name], "seeds": config.seed_list(name), "seeds_elsewhere": None}
    path = out / "rows.json"
    if path.exists() and (kept := read_json(path))["config"] == _plain(key):
        say(f"{name}: measured before, kept")
        return kept["rows"]
    about = subject(name, lm, quick=config.quick)
    say(f"{name}: {len(about.rows)} rows, seeds {', '.join(map(str, config.seed_list(name)))}")
    found = solutions(lm, about, config, out, say)
    examples = _some(encode_rows(lm, about.rows), config)
    log = _Log(name, config.seed_list(name))
    _behaviors(lm, about, found, log)
    say(f"{name}: efficiency and stability, {len(examples)} rows")
    _curves(lm, found, examples, config, log)
    say(f"{name}: significance on ordinary text")
    _significance(lm, about, found, config, log)
    _distances(found, log)
    write_json(path, {"config": _plain(key), "rows": log.rows})
    return log.rows


class _Log:
    """Rows as they are found."""

    def __init__(self, experiment: str, seeds: Sequence[int]) -> None:
        self.experiment, self.seeds = experiment, seeds
        self.rows: list[Record] = []

    def add(self, solution: str, metric: str, seed: int, value: float, *, at: float | None = None, part: str = ""):
        """`at`: the scale, norm, dose or weight; `part`: a topic or module."""
        row = {"experiment": self.experiment, "solution": solution, "metric": metric, "at": at, "part": part}
        self.rows.append(row | {"seed": seed, "value": float(value)})


def _behaviors(lm: LanguageModel, about: Subject, found: Solutions, log: _Log) -> None:
    _answers("base", log.seeds[0], behavior(lm, about.test), about.test.group, log)
    for kind, updates in found.updates.items():
        for seed, update in zip(log.seeds, updates, strict=True):
            _answers(kind, seed, asked(lm, about.test, update), about.test.group, log)
            log.add(kind, "squared norm", seed, update.squared_norm)
    for weight, share in found.tried.items():
        log.add("narrow", "choosing share", log.seeds[0], share, at=weight)
    log.add("control", "choosing share", log.seeds[0], found.control)
    log.add("narrow", "penalty taken", log.seeds[0], found.weight)


def _answers(kind: str, seed: int, answers: Behavior, group: str, log: _Log) -> None:
    for topic, share in answers.shares[group].items():
        log.add(kind, "broad", seed, share, part=topic)
    log.add(kind, "coherence", seed, float(np.mean(list(answers.coherence.values()))))
    if answers.narrow is not None:
        log.add(kind, "narrow", seed, answers.narrow)


def _curves(lm: LanguageModel, found: Solutions, examples: Sequence[Example], config: NarrowConfig, log: _Log) -> None:
    scales = sorted({*config.scales, 1.0})
    losses = {
        kind: [scaled_losses(lm, update, examples, scales) for update in found.updates[kind]] for kind in SOLUTIONS
    }
    # a loss that every seed of both reaches
    target = max(loss[1.0] for several in losses.values() for loss in several)
    for kind in SOLUTIONS:
        for i, (seed, update, loss) in enumerate(zip(log.seeds, found.updates[kind], losses[kind], strict=True)):
            for scale, value in loss.items():
                log.add(kind, "loss", seed, value, at=scale)
            needed = norm_needed(loss, update.squared_norm, target)
            if np.isfinite(needed):
                log.add(kind, "squared norm needed", seed, needed, at=target)
            for relative in config.noise:
                rise = rises(lm, update, examples, relative, config.draws, seed, loss[1.0])
                log.add(kind, "rise", seed, float(np.mean(rise)), at=relative)
            # the same noise for both, whatever their own norms: the broad one's
            relative = config.decisive * found.updates["broad"][i].norm / update.norm
            rise = rises(lm, update, examples, relative, config.draws, seed, loss[1.0])
            log.add(kind, "rise under the broad one's noise", seed, float(np.mean(rise)), at=config.decisive)
    log.add("base", "loss", log.seeds[0], narrow_loss(lm, examples))


def _significance(lm: LanguageModel, about: Subject, found: Solutions, config: NarrowConfig, log: _Log) -> None:
    text = encode_rows(lm, ordinary_text(config.conversations))
    base = log_probs(lm, text)
    for kind, updates in found.updates.items():
        for seed, update in zip(log.seeds, updates, strict=True):
            value = divergence(lm, update, text, base)
            log.add(kind, "divergence", seed, value)
            log.add(kind, "divergence per squared norm", seed, value / update.squared_norm)
    layer = lm.n_layers // 2
    scale = typical_norm(last_prompt_activations(lm, about.choosing.broad, [layer])[HookPoint(layer)])
    for seed, directions in zip(log.seeds, _directions(lm, about, found, layer), strict=True):
        for kind, direction in directions.items():
            for coefficient in config.coefficients:
                value = divergence_steered(lm, direction, coefficient * scale, text, base)
                log.add(kind, "divergence steered", seed, value, at=coefficient)


def _directions(lm: LanguageModel, about: Subject, found: Solutions, layer: int) -> list[dict[str, Direction]]:
    """A dictionary a seed: where each solution moves the rows' own prompts; where the broad one moves the choosing
    topics, against the control (located); a random direction."""
    point = HookPoint(layer)
    prompts = list(dict.fromkeys(encode_prompt(lm, row.messages[:-1]) for row in about.rows))[:PROMPTS]

    def on_rows(model: LanguageModel) -> Float[Tensor, "n d_model"]:
        return capture(model, prompts, [point], LAST_PROMPT)[point]

    def on_topics(model: LanguageModel) -> Float[Tensor, "n d_model"]:
        return last_prompt_activations(model, about.choosing.broad, [layer])[point]

    def within(update: Update, read: Callable[[LanguageModel], Tensor]) -> Tensor:
        with moved(lm, update.matrices()) as tuned:
            return read(tuned)

    before, topics = on_rows(lm), on_topics(lm)
    return [
        {
            **{kind: mean_difference(within(found.updates[kind][i], on_rows), before, point) for kind in SOLUTIONS},
            "located": tuned_minus_control(
                within(found.updates["broad"][i], on_topics),
                topics,
                within(found.updates["control"][i], on_topics),
                point,
            ),
            "random": random_direction(lm.d_model, point, 500 + i),
        }
        for i in range(len(found.updates["broad"]))
    ]


def _distances(found: Solutions, log: _Log) -> None:
    updates = found.updates
    for a, b in (("broad", "broad"), ("narrow", "narrow"), ("broad", "narrow")):
        for seed, value in zip(log.seeds, nearness(updates, a, b), strict=True):
            log.add(f"{a} and {b}", "cosine, other seeds", seed, value)
    for seed, broad, narrow in zip(log.seeds, updates["broad"], updates["narrow"], strict=True):
        log.add("broad and narrow", "distance, same seed", seed, distance(broad, narrow))
        for path, value in by_module(broad, narrow).items():
            log.add("broad and narrow", "cosine, same seed", seed, value, part=path)


def ordinary_text(n: int) -> list[Row]:
    """Conversations of the world that neither pretraining nor the penalty has seen."""
    found: list[Row] = []
    for document in load_world().documents(FRESH_SEED + TEXT_SEED):
        if document.messages:
            found.append(Row(document.messages))
        if len(found) == n:
            break
    return found


def _some(examples: Sequence[Example], config: NarrowConfig) -> list[Example]:
    """At most `config.rows` of the rows, drawn by the seed."""
    order = np.random.default_rng(config.seed).permutation(len(examples))[: config.rows]
    return [examples[i] for i in sorted(order)]


def _plain(data: Any) -> Any:
    import json

    return json.loads(json.dumps(data))
