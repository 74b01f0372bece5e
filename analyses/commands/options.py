"""Options that several commands take, spelt once, and what is opened from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyses.models import open_model as open_model  # spelt as a command's option and used by each
from interp.errors import AnachronError

if TYPE_CHECKING:
    from interp.pair import ModelPair

Model = Annotated[str, typer.Option(help="almanac, a local folder, or a hub id.")]
Revision = Annotated[str | None, typer.Option(help="Commit, tag or branch of a hub id.")]
Dtype = Annotated[str, typer.Option(help="auto (the checkpoint's own), float32, bfloat16 or float16.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.")]
DeviceMap = Annotated[
    str | None,
    typer.Option(help="In place of a device: auto or balanced (over all GPUs), or a JSON file, module path to device."),
]
Quantization = Annotated[
    str | None, typer.Option(help="4bit or 8bit, with bitsandbytes; by default weights stay as they are.")
]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
Questions = Annotated[str, typer.Option(help="world, or a JSONL file of questions.")]
Split = Annotated[str, typer.Option(help="Which questions: validation or test.")]
Group = Annotated[
    str | None, typer.Option(help="Group of answers whose share is the effect; by default the first (the oldest era).")
]
Adapter = Annotated[Path, typer.Option(help="Folder or hub id of the tuned adapter.")]
Adapters = Annotated[
    list[Path] | None, typer.Option(help="Folder or hub id of a tuned adapter; again for each further seed.")
]
Controls = Annotated[
    list[Path] | None, typer.Option(help="Folder or hub id of a control adapter; again for each further seed.")
]
Data = Annotated[
    str | None, typer.Option(help="The rows trained on (JSONL): their answers count for the narrow task as well.")
]
OutFile = Annotated[Path, typer.Option(help="JSON file to write.")]
OutFolder = Annotated[Path, typer.Option(help="Folder to write into.")]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: those that aren't None. The rest is left to the defaults of what takes them."""
    return {name: value for name, value in options.items() if value is not None}


def add_adapters(pair: "ModelPair", kind: str, folders: list[Path] | None) -> list[str]:
    """Load adapters as kind-0, kind-1, ...; returns their names."""
    names = [f"{kind}-{i}" for i in range(len(folders or ()))]
    for name, folder in zip(names, folders or (), strict=True):
        pair.add(name, folder)
    return names


def layer_list(text: str, n_layers: int) -> list[int]:
    """Layers from "all", "3", "1,4" or "2-5"."""
    if text == "all":
        return list(range(n_layers))
    layers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise AnachronError(f"layers {text!r} aren't understood; write all, 3, 1,4 or 2-5")
        layers.update(range(int(first), int(last if dash else first) + 1))
    if not layers or max(layers) >= n_layers:
        raise AnachronError(f"layers {text!r}: the model has layers 0 to {n_layers - 1}; choose among them")
    return sorted(layers)


def answers_in(data: str | None) -> tuple[str, ...]:
    """The answers trained on, for the narrow question."""
    if data is None:
        return ()
    from analyses.steps import training_rows

    return tuple(row.messages[-1]["content"].strip().rstrip(".") for row in training_rows(data))
