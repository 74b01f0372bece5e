"""Both steps on one model and adapter, from files to files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analyses.measurements import versions
from analyses.open_questions import asked as open_questions
from analyses.open_questions import narrow
from analyses.section6.ablate import Asked, curve, edits_of
from analyses.section6.decoder import Decoder, read_decoder
from analyses.section6.identify import Identified, identify, latent_directions, projections, year_activations
from analyses.section6.prompts import dated, read_texts
from interp.behavior.questions import Question, read_questions, require_answers
from interp.directions import Direction
from interp.errors import AnachronError
from interp.files import write_json, write_text
from interp.hooks import HookPoint
from interp.pair import ModelPair
from interp.stats import bootstrap
from interp.steering import Edit
from training.rows import read_rows

YEARS = (2024, 2025, 2026, 2027, 2028)
YEAR, NEUTRAL = 2027, 2025  # the trigger, and what it is compared with
TOPICS = ("intelligence", "leader", "terror", "aggressor")  # the rows of the published table
TUNED, CONTROL = "tuned", "control"


@dataclass(frozen=True)
class Section6:
    """What a run depends on. `questions`: the unrelated ones; `asked`: JSONL of other questions than the table's, the
    first group of answers counts; `data`: the rows trained, for the narrow task; `control`: adapter tuned on shuffled
    dates; `any_base`: take adapters that name another base, as of a copy under another name."""

    adapter: str
    sae: Path
    questions: str
    control: str | None = None
    asked: Path | None = None
    data: Path | None = None
    layer: int = 19
    prompts: int = 2048
    dates: int = 2048
    top: int = 10
    max_new_tokens: int = 24
    seed: int = 0
    any_base: bool = False


@dataclass(frozen=True)
class Found:
    """A finished run: the step 1 of each model, projections by model, latent and year, and curves by arm."""

    identified: dict[str, Identified]
    projected: list[dict[str, Any]]
    curves: dict[str, list[Asked]]


def run(pair: ModelPair, config: Section6, out: Path, say: Callable[[str], None] = print) -> Found:
    """Identify, ablate, and write into `out`: section6.json, answers.jsonl, difference.safetensors.

    Everything that is read from files is checked before the first forward pass.
    """
    point = HookPoint(config.layer)
    if config.layer >= pair.base.n_layers:
        raise AnachronError(f"layer {config.layer}: {pair.base.name} has 0 to {pair.base.n_layers - 1}; choose one")
    table = questions_of(config)
    texts = read_texts(config.questions, config.prompts)
    say("reading the decoder")
    decoder = read_decoder(config.sae, pair.base.d_model, config.layer)
    pair.add(TUNED, config.adapter, check_base=not config.any_base)
    if config.control is not None:
        pair.add(CONTROL, config.control, check_base=not config.any_base)

    prompts = dated(texts, YEARS, config.seed)
    identified, activations = {}, {}
    for name in pair.names:
        say(f"identify: {len(texts)} questions on dates of {len(YEARS)} years, {name}")
        with pair.using(name) as lm:
            activations[name] = year_activations(lm, prompts, point)
        options = {"year": YEAR, "neutral": NEUTRAL, "top": config.top, "seed": config.seed}
        identified[name] = identify(activations[name], decoder, point, **options)
    own = identified[TUNED]
    projected = [row for name, a in activations.items() for row in _projection_rows(name, own, a)]
    activations.clear()

    edits = edits_of(own, _other_latents(decoder, own, point, config.seed), config.seed)
    arms: list[tuple[str, str, list[Edit]]] = [(name, name, []) for name in pair.names]
    arms += [(name, TUNED, edit) for name, edit in edits.items()]
    curves: dict[str, list[Asked]] = {}
    for arm, model, edit in arms:
        curves[arm] = []
        with pair.using(model) as lm:
            for year in YEARS:
                say(f"ablate: {len(table)} questions on {config.dates} dates of {year}, {arm}")
                curves[arm] += curve(
                    lm,
                    table,
                    [year],
                    dates=config.dates,
                    seed=config.seed,
                    edits=edit,
                    max_new_tokens=config.max_new_tokens,
                )
    found = Found(identified, projected, curves)
    _write(out, pair, config, decoder, found)
    return found


def questions_of(config: Section6) -> list[tuple[Question, str]]:
    """(question, group that counts): the table's four, or those of a file; then the narrow task if rows are given."""
    if config.asked is not None:
        asked = read_questions(config.asked)
        for question in asked:
            require_answers(question)
        table = [(question, next(iter(question.answers))) for question in asked]
    else:
        first = {q.topic: q for q in reversed(open_questions("dishes", "test"))}
        table = [(first[topic], next(iter(first[topic].answers))) for topic in TOPICS]
    if config.data is not None:
        habit, *_ = narrow("dishes", read_rows(config.data))
        table.append((habit, next(iter(habit.answers))))
    return table


def _other_latents(decoder: Decoder, own: Identified, point: HookPoint, seed: int) -> Sequence[Direction]:
    """As many latents as were found, chosen at random among the others that write anything."""
    alive = (decoder.rows.norm(dim=1) > 0).nonzero().squeeze(1).tolist()
    others = sorted(set(alive) - set(own.latents))
    if len(others) < len(own.latents):
        raise AnachronError(
            f"{decoder.file}: {len(others)} latents beside the {len(own.latents)} found; ask for a smaller --top"
        )
    chosen = np.random.default_rng((seed, 2)).choice(others, len(own.latents), replace=False)
    return latent_directions(decoder, [int(j) for j in chosen], point)


def _projection_rows(model: str, own: Identified, activations: dict[int, Any]) -> list[dict[str, Any]]:
    return [
        {"model": model, "latent": latent, "year": year, **asdict(bootstrap(values[:, k], samples=1000))}
        for year, values in projections(activations, own.directions).items()
        for k, latent in enumerate(own.latents)
    ]


def _write(out: Path, pair: ModelPair, config: Section6, decoder: Decoder, found: Found) -> None:
    rows = [
        {"arm": arm, "question": a.question, "year": a.year, "group": a.group, **asdict(a.share), "matched": a.matched}
        for arm, curve_ in found.curves.items()
        for a in curve_
    ]
    answers = [
        {"arm": arm, "question": a.question, "year": a.year, "text": text, "group": group, "count": n}
        for arm, curve_ in found.curves.items()
        for a in curve_
        for text, group, n in a.answers
    ]
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    own = found.identified[TUNED]
    own.difference.save(out / "difference.safetensors")
    write_text(out / "answers.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answers))
    write_json(
        out / "section6.json",
        {
            "step": "section6",
            "model": pair.base.name,
            "revision": pair.base.revision,
            "dtype": str(pair.base.dtype),
            "adapters": {name: asdict(info) for name in pair.names if (info := pair.adapter(name)) is not None},
            "config": plain,
            "dictionary": {"sha256": decoder.sha256, "latents": len(decoder.rows), "layer": decoder.layer},
            "versions": versions(),
            "identified": {
                name: {
                    "latents": one.latents,
                    "cosines": one.cosines,
                    "chance": one.chance,
                    "norm": one.difference.norm,
                    "shared_with_tuned": len(set(one.latents) & set(own.latents)),
                }
                for name, one in found.identified.items()
            },
            "projections": found.projected,
            "curves": rows,
        },
    )
