"""A published SAE as its files state it, and tensors taken from them: what the readers of all formats share."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.anatomy import SITES
from interp.errors import AnachronError
from interp.files import read_json
from interp.hooks import HookPoint

_CHUNK = 8192  # rows at a time: a matrix of gigabytes is never copied to be checked


@dataclass(frozen=True, eq=False)
class Published:
    """What a reader found.

    architecture: as the files call it. files: those read. weights: the arguments of `Sae` that aren't names. hook: the
    point as the files write it, model: the model they name, None where they don't say.
    """

    format: str
    architecture: str
    files: tuple[Path, ...]
    weights: Mapping[str, Any] = field(repr=False)
    hook: str | None
    model: str | None

    @property
    def point(self) -> HookPoint | None:
        return None if self.hook is None else point_of(self.hook, self.files[0])


def point_of(hook: str, file: Path) -> HookPoint:
    """The hook point of a name as TransformerLens writes it, "blocks.19.hook_resid_post", or of a block, "layers.19".

    Errors: AnachronError for what isn't a site of a block: heads (hook_z), embeddings, norms.
    """
    own = re.fullmatch(rf"blocks\.(\d+)\.hook_({'|'.join(SITES)}|in|out)", hook)
    if own:
        return HookPoint(int(own[1]), {"in": "resid_pre", "out": "resid_post"}.get(own[2], own[2]))
    block = re.fullmatch(r"(?:\w+\.)*(?:layers|h)\.(\d+)(?:\.output)?", hook)
    if block:
        return HookPoint(int(block[1]))
    raise AnachronError(
        f"{file}: an SAE of {hook!r}, which isn't a site of a block ({', '.join(SITES)}); take one of the residual "
        "stream, or of what attention or the MLP adds to it"
    )


def read_config(path: Path) -> dict[str, Any]:
    """A configuration in JSON. Errors: AnachronError for a missing or broken file, or one that isn't an object."""
    config = read_json(path)
    if not isinstance(config, dict):
        raise AnachronError(f"{path}: a {type(config).__name__}, not keys and values; it isn't an SAE's configuration")
    return config


def need(file: Path, config: Any, name: str) -> Any:
    """The value of a key that a configuration has to have."""
    if not isinstance(config, Mapping) or name not in config:
        raise AnachronError(f"{file}: says nothing of {name!r}; it is of another format or version: download it again")
    return config[name]


def read_pt(file: Path) -> dict[str, Tensor]:
    """The tensors by name of a file written by torch.save, mapped into memory. What else it holds is left out.

    Errors: AnachronError for a missing or truncated file, one that would run code, or one that isn't a dict.
    """
    try:
        # weights only: a pickle could run anything
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()
        raise AnachronError(
            f"{file}: not a whole file of tensors ({reason[0] if reason else type(error).__name__}); download it again"
        ) from error
    if not isinstance(loaded, dict):
        raise AnachronError(f"{file}: a {type(loaded).__name__}, not tensors by name; it isn't an SAE's state dict")
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


def read_npz(file: Path) -> dict[str, Tensor]:
    """The arrays by name of an .npz file. Errors: AnachronError if missing, truncated, or holding Python objects."""
    import zlib

    import numpy as np

    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).strip().splitlines()
        raise AnachronError(
            f"{file}: not a whole .npz file of numbers ({reason[0] if reason else type(error).__name__}); download it "
            "again"
        ) from error


def matrix(file: Path, tensors: Mapping[str, Tensor], name: str) -> Float[Tensor, "rows columns"]:
    """A finite matrix of a file, fp32."""
    found = _checked(file, tensors, name)
    if found.dim() != 2:
        raise AnachronError(f"{file}: {name} is {list(found.shape)}, and a matrix is wanted; it isn't an SAE's")
    return found


def take(file: Path, tensors: Mapping[str, Tensor], name: str, *shape: int) -> Tensor:
    """A finite tensor of a file, fp32, of this shape."""
    found = _checked(file, tensors, name)
    if tuple(found.shape) != shape:
        raise AnachronError(
            f"{file}: {name} is {list(found.shape)}, and beside its other tensors it has to be {list(shape)}; files of "
            "two SAEs were mixed: download it again"
        )
    return found


def _checked(file: Path, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise AnachronError(f"{file}: no tensor {name!r} among {', '.join(sorted(tensors)[:8])}; download it again")
    found = tensors[name]
    refuse_non_finite(file, name, found)
    return found.float()


def refuse_non_finite(file: Path, name: str, tensor: Tensor) -> None:
    """AnachronError if a tensor holds NaN or infinite values."""
    rows = tensor.split(_CHUNK) if tensor.dim() else (tensor,)
    if not all(bool(torch.isfinite(part).all()) for part in rows):
        raise AnachronError(f"{file}: {name} holds NaN or infinite values; download it again")
