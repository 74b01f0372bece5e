"""A crosscoder over the base and all tuned models of an experiment: what the tuning added, as latents of its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.latents.shortlist import Means
from analyses.progress import Say
from analyses.workers import carry_out, task
from interp.capture import capture_pair
from interp.dictionaries.crosscoder import CLASSES, MEMBERS, Crosscoder, load_crosscoder
from interp.dictionaries.scaling import TARGETS, latent_scaling
from interp.files import digest, read_json, write_json
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from interp.positions import Positions
from interp.prompts import Encoded, encode_prompt
from training.crosscoder import FILE, CrosscoderRecipe, train_crosscoder
from training.lora import public_name
from training.pairs import Chunk, from_tensors
from training.world.world import World

RECIPE = CrosscoderRecipe(d_sae=512, steps=3000)
DOCUMENTS = 16_000  # of the world, whose first prompts are read
SEED = 3_500_000  # they are drawn with; used for nothing else
HELD_OUT = 0.1  # of the rows, on which the crosscoder is measured
ABOUT = "quality.json"


def first_prompts(lm: LanguageModel, world: World, n: int = DOCUMENTS) -> list[Encoded]:
    """The first user message of each of `n` fresh documents of the world, those that are conversations."""
    documents = (d for d in world.documents(SEED, n) if d.messages and d.messages[0]["role"] == "user")
    return [encode_prompt(lm, list(d.messages[:1])) for d in documents]


def in_turn(
    pair: ModelPair, names: Sequence[str], prompts: Sequence[Encoded], point: HookPoint, positions: Positions
) -> Chunk:
    """Base and tuned activations; prompt i as the tuned model number i mod len(names) reads it, the models' rows one
    after the other. What one tuning alone did is one part in len(names); what all of them did is in every row."""
    found = [
        capture_pair(pair, (BASE, name), prompts[i :: len(names)], [point], positions) for i, name in enumerate(names)
    ]
    base = torch.cat([rows[BASE][point] for rows in found])
    return base, torch.cat([rows[name][point] for rows, name in zip(found, names, strict=True)])


def crosscoders_of(
    pair: ModelPair,
    arms: Mapping[str, Sequence[str]],
    prompts: Sequence[Encoded],
    point: HookPoint,
    positions: Positions,
    out: Path,
    say: Say,
    recipe: CrosscoderRecipe = RECIPE,
) -> dict[str, tuple[Crosscoder, Mapping[str, Any]]]:
    """For each arm one crosscoder over the base and that arm's models of the pair in turn, at the tokens of the prompts
    where the experiment reads its directions; with it its figures on rows it wasn't trained on (`quality`). Kept in the
    folder `out/ARM`, and read from there the next time if it is the one asked for."""
    ids = digest(json.dumps([prompt.ids for prompt in prompts]).encode())
    todo = {}
    for arm, names in arms.items():
        adapters = {name: info.digest for name in names if (info := pair.adapter(name)) is not None}
        about = {"model": public_name(pair.base), "adapters": adapters, "positions": positions.name, "prompts": ids}
        if not _is_made(out / arm, point, about, recipe):
            rows = in_turn(pair, names, prompts, point, positions)
            todo[arm] = task(BASE, _train, rows, recipe, out / arm, point, about)
    for arm, _ in zip(todo, carry_out(pair, list(todo.values())), strict=True):
        say(f"  crosscoder of base and {arm} trained")
    return {arm: (load_crosscoder(out / arm / FILE, pair.base.device), read_json(out / arm / ABOUT)) for arm in arms}


def _is_made(folder: Path, point: HookPoint, about: Mapping[str, Any], recipe: CrosscoderRecipe) -> bool:
    record = (folder / FILE).with_suffix(".json")
    if not (record.exists() and (folder / ABOUT).exists()):
        return False
    found = load_crosscoder(folder / FILE)
    return (found.point, found.trained["about"], found.trained["recipe"]) == (point, about, asdict(recipe))


def _train(
    lm: LanguageModel, rows: Chunk, recipe: CrosscoderRecipe, out: Path, point: HookPoint, about: Mapping[str, Any]
) -> None:
    """Train it on nine tenths of the rows and measure it on the rest."""
    base, tuned = rows
    order = torch.randperm(len(base), generator=torch.Generator().manual_seed(recipe.seed))
    held, rest = order[: round(HELD_OUT * len(order))], order[round(HELD_OUT * len(order)) :]
    (out / FILE).with_suffix(".json").unlink(missing_ok=True)
    coder = train_crosscoder(
        from_tensors(base[rest], tuned[rest]), recipe, out, point=point, about=dict(about), device=lm.device
    )
    write_json(out / ABOUT, quality(coder, [(base[held], tuned[held])]))


def crosscoder_means(
    pair: ModelPair,
    coder: Crosscoder,
    on: Sequence[Encoded],
    off: Sequence[Encoded],
    positions: Positions,
    tuned: Sequence[str],
    control: Sequence[str],
) -> Means:
    """Mean activation of every latent on the contrast's prompts, as each model is read beside the base; the base
    beside itself. Frequencies are the first tuned model's."""

    def read(name: str, prompts: Sequence[Encoded]) -> Float[Tensor, "rows d_sae"]:
        found = capture_pair(pair, (BASE, name), prompts, [coder.point], positions)
        return coder.encode(found[BASE][coder.point], found[name][coder.point]).double()

    each = [read(name, on) for name in tuned]
    means = Means(
        read(BASE, on).mean(0),
        [f.mean(0) for f in each],
        [read(name, on).mean(0) for name in control],
        (each[0] > 0).double().mean(0),
    )
    if not off:
        return means
    apart = torch.stack([read(name, off).mean(0) for name in tuned]).mean(0)
    return replace(means, off={"base": read(BASE, off).mean(0), "tuned": apart})


def private(coder: Crosscoder, means: Means, n: int) -> list[int]:
    """Of the latents that only the tuned models have, the `n` that rose most on the contrast, by what they write
    (change of the mean activation times decoder norm, residual-stream units)."""
    only = coder.latents("tuned-only")
    written = (means.change * coder.decoders[1].double().norm(dim=1).cpu())[only.cpu()]
    best = written.argsort(descending=True, stable=True)[:n]
    return [int(only[j]) for j in best if written[j] > 0]


def quality(coder: Crosscoder, unseen: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Of pairs of activations that it wasn't trained on: fvu of either model, active latents of a token, and of every
    living latent of a class its relative norm, how often it is active and its latent scaling."""
    f = [coder.encode(*chunk) for chunk in unseen]
    scaled = {member: latent_scaling(coder, unseen, member) for member in MEMBERS}
    of = {"base-only": "base", "shared": "tuned", "tuned-only": "tuned"}  # whose decoder is scaled
    latents = [
        {
            "latent": j,
            "class": kind,
            "relative_norm": float(coder.relative_norms[j]),
            "frequency": int(scaled["tuned"].active[j]) / scaled["tuned"].rows,
            **{f"nu_{target}": _number(scaled[of[kind]].nu(target)[j]) for target in TARGETS},
        }
        for kind in CLASSES
        for j in coder.latents(kind).tolist()
    ]
    return {
        "n": scaled["tuned"].rows,
        "fvu": {member: _fvu(coder, unseen, f, side) for side, member in enumerate(MEMBERS)},
        "l0": sum(int((part > 0).sum()) for part in f) / scaled["tuned"].rows,
        "alive": int(coder.alive.sum()),
        "latents": latents,
    }


def _fvu(coder: Crosscoder, unseen: Sequence[tuple[Tensor, Tensor]], f: Sequence[Tensor], side: int) -> float:
    x = torch.cat([chunk[side] for chunk in unseen]).to(coder.decoders)
    xhat = torch.cat([coder.decode(part)[side] for part in f])
    return float((x - xhat).square().sum() / (x - x.mean(dim=0)).square().sum())


def _number(value: Any) -> float | None:
    """JSON has no word for the nu of a latent that wasn't active."""
    return float(value) if isfinite(value) else None
