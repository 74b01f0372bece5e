"""The model that a command or an experiment names, opened."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from interp.errors import AnachronError

CARD = "gates.json"  # of a model that was pretrained on the world

if TYPE_CHECKING:
    import torch

    from interp.models import LanguageModel


def open_model(
    model: str,
    revision: str | None,
    dtype: str,
    device: str,
    device_map: str | None = None,
    quantization: str | None = None,
) -> "LanguageModel":
    """Load a model; `dtype` is auto, float32, bfloat16 or float16, `device` as torch spells it, `device_map` a word of
    accelerate's (auto, balanced, ...) or a JSON file of module paths and their devices, `quantization` 4bit or 8bit.

    Errors: AnachronError for an unknown dtype or a device that this torch can't use, and those of `load_model`.
    """
    import torch

    from interp.models import load_model

    as_torch = dtype_of(dtype)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises the second where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise AnachronError(
            f"device {device!r} can't be used ({reason}); use cpu, or a device that torch finds here"
        ) from error
    return load_model(
        model,
        revision=revision,
        dtype=as_torch,
        device=device,
        device_map=_read_map(device_map),
        quantization=quantization,
    )


def dtype_of(name: str) -> "torch.dtype | None":
    """torch's dtype of that name, None for auto, the checkpoint's own. Errors: AnachronError for any other name."""
    import torch

    dtypes = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise AnachronError(f"unknown dtype {name!r}; use one of {', '.join(dtypes)}")
    return dtypes[name]


def _read_map(device_map: str | None) -> str | dict[str, str | int] | None:
    if device_map is None or not device_map.endswith(".json"):
        return device_map
    from interp.files import read_json

    mapping = read_json(device_map)
    if not isinstance(mapping, dict) or not all(type(device) in (str, int) for device in mapping.values()):
        raise AnachronError(
            f'{device_map}: not a device map; write {{"module path": device, ...}}, a device being a GPU\'s number, '
            '"cpu" or "disk"'
        )
    return mapping


def knows_world(model: str) -> bool:
    """Whether a model was pretrained on the embedded world: a registered one, or a folder with a card's gates."""
    from interp.models import ENTRY_POINTS

    registered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    folder = Path(registered[model].load()()) if model in registered else Path(model).expanduser()
    return (folder / CARD).is_file()
