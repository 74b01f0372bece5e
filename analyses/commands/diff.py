"""`anachron diff`: directions along which an adapter moved the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyses.commands.backend import Backend, Remote
from analyses.commands.options import (
    Adapter,
    Device,
    DeviceMap,
    Dtype,
    Model,
    OutFolder,
    Quantization,
    Questions,
    Revision,
    Seed,
    Split,
)

if TYPE_CHECKING:
    from torch import Tensor

    from interp.directions import Direction
    from interp.hooks import HookPoint


def diff(
    adapter: Adapter,
    out: OutFolder,
    model: Model = "almanac",
    control: Annotated[Path | None, typer.Option(help="Folder of the control adapter.")] = None,
    questions: Questions = "world",
    split: Split = "validation",
    layers: Annotated[str, typer.Option(help="all, 3, 1,4 or 2-5.")] = "all",
    truth: Annotated[
        bool | None, typer.Option(help="Compare with the true era direction; by default for an almanac.")
    ] = None,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    quantization: Quantization = None,
    backend: Backend = "hooks",
    remote: Remote = False,
) -> None:
    """Locate the change at the last prompt token, layer by layer.

    Writes METHOD.LAYER.safetensors for mean_difference, tuned_minus_control (with a control), pca (uncentred), truth
    (an almanac's own: a year of the oldest era stated against one of the newest) and random, and diff.json.
    """
    from functools import partial

    from analyses.commands.backend import capture_all, open_pair
    from analyses.commands.options import layer_list, open_model
    from analyses.measurements import versions
    from analyses.progress import telling
    from analyses.steps import ask, true_directions
    from interp.files import write_json
    from interp.hooks import HookPoint
    from interp.positions import LAST_PROMPT
    from interp.prompts import encode_prompt
    from training.world.world import load_world

    asked = ask(questions, split)
    placement = (dtype, device, device_map, quantization)
    load = partial(open_model, model, revision, *placement)
    with telling() as say, open_pair(load, backend, remote, model, revision, placement) as pair:
        base = pair.base
        chosen = layer_list(layers, base.n_layers)
        pair.add("tuned", adapter)
        if control is not None:
            pair.add("control", control)
        say(f"capturing {len(asked.broad)} prompts on {', '.join(pair.names)}")
        prompts = [encode_prompt(base, question.messages) for question in asked.broad]
        captured = capture_all(pair, prompts, [HookPoint(layer) for layer in chosen], LAST_PROMPT)
        known: dict[HookPoint, Direction] = {}
        if truth or (truth is None and _is_almanac(model)):
            say("capturing dated prompts on base")
            known = true_directions(base, load_world(), chosen)
    rows = []
    for layer in chosen:
        point = HookPoint(layer)
        found = _directions({name: points[point] for name, points in captured.items()}, point, seed)
        found |= {"truth": known[point]} if point in known else {}
        for method, direction in found.items():
            direction.save(out / f"{method}.{layer}.safetensors")
        rows.append(_row(layer, {name: points[point] for name, points in captured.items()}, found))
    config = {
        "questions": questions,
        "split": split,
        "positions": LAST_PROMPT.name,
        "prompts": len(prompts),
        "seed": seed,
        "backend": backend,
        "remote": remote,
    }
    adapters = {"tuned": str(adapter), "control": None if control is None else str(control)}
    report = {"step": "diff", "model": base.name, "revision": base.revision, "adapters": adapters, "config": config}
    write_json(out / "diff.json", {**report, "versions": versions(), "layers": rows})
    _print(rows)
    typer.echo(f"directions: {out}")


def _is_almanac(model: str) -> bool:
    """The shipped model, or a folder that `anachron pretrain` wrote."""
    return model == "almanac" or (Path(model) / "pretraining.json").is_file()


def _directions(rows: Mapping[str, "Tensor"], point: "HookPoint", seed: int) -> dict[str, "Direction"]:
    """Directions by method. An adapter of later layers leaves a layer as it is: there is nothing to locate there."""
    import torch

    from interp.directions import mean_difference, pca, random_direction, tuned_minus_control

    found = {}
    base, tuned = rows["base"], rows["tuned"]
    if not torch.equal(tuned, base):
        found["mean_difference"] = mean_difference(tuned, base, point)
        found["pca"] = pca(tuned.double() - base.double(), point, centred=False)
    if "control" in rows and not torch.equal(tuned, rows["control"]):
        found["tuned_minus_control"] = tuned_minus_control(tuned, base, rows["control"], point)
    found["random"] = random_direction(base.shape[1], point, seed)
    return found


def _row(layer: int, rows: Mapping[str, "Tensor"], found: Mapping[str, "Direction"]) -> dict[str, Any]:
    """One layer of diff.json: norms in residual-stream units, and the cosine of every pair of directions."""
    from analyses.steps import typical_norm
    from interp.directions import cosine

    base = rows["base"].double().mean(dim=0)
    norms = {
        f"{name}_shift": float((x.double().mean(dim=0) - base).norm()) for name, x in rows.items() if name != "base"
    }
    methods = list(found)
    cosines = {f"{a} {b}": cosine(found[a], found[b]) for i, a in enumerate(methods) for b in methods[i + 1 :]}
    return {
        "layer": layer,
        "norms": {"typical": typical_norm(rows["base"]), **norms, **{method: found[method].norm for method in methods}},
        "cosines": cosines,
    }


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    from analyses.tables import print_table

    norms = list(dict.fromkeys(name for row in rows for name in row["norms"] if name != "random"))
    print_table("norms", ("layer", *norms), [(row["layer"], *(row["norms"].get(n) for n in norms)) for row in rows])
    pairs = list(dict.fromkeys(pair for row in rows for pair in row["cosines"]))
    print_table(
        "cosines",
        ("directions", *(f"layer {row['layer']}" for row in rows)),
        [(p, *(row["cosines"].get(p) for row in rows)) for p in pairs],
    )
