"""Files that are either whole or absent: atomic writes, checked reads, digests.

Every writer goes through `atomic`: the text lies in a temporary file of the same folder until it is complete and
takes its name in one step, so a run killed at any moment leaves the old file or the new one, never half of one.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.errors import AnachronError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto `path` when the block ends and removed when it raises.

    Creates missing parent folders. The temporary name starts with a dot and keeps the suffix of `path`, because some
    writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with the line ends it has, atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: str | Path, obj: Any) -> None:
    """Write `obj` as JSON, keys in insertion order, one space of indent, a newline at the end.

    NaN and infinities are refused (AnachronError): JSON has no word for them and readers disagree on what to make of
    them.
    """
    try:
        text = json.dumps(obj, indent=1, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise AnachronError(
            f"{path}: can't be written as JSON ({error}); replace the value named before writing"
        ) from error
    write_text(path, text + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file. A missing, truncated or malformed one is an AnachronError that names it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise AnachronError(f"{path}: no such file; check the path or run the step that writes it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise AnachronError(f"{path}: can't be read ({error}); it should be a UTF-8 JSON file") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise AnachronError(
            f"{path}:{error.lineno}: not JSON ({error.msg}); the file is truncated or was edited: write it again"
        ) from error


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write named tensors as safetensors, atomically. Same tensors and metadata, same bytes.

    Tensors are brought to the CPU and made contiguous; non-finite values are refused with the tensor's name.
    """
    from safetensors.torch import save

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _refuse_non_finite(path, ready)
    data = memoryview(save(ready))
    length = int.from_bytes(data[:8], "little")
    # safetensors writes metadata in the order of a hash that differs from run to run, so the header's is written here
    header = json.loads(bytes(data[8 : 8 + length]))
    if metadata:
        header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # keeps the tensors aligned
    with atomic(path) as temporary, open(temporary, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.write(data[8 + length :])


def load_tensors(path: str | Path, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file -> (tensors by name, metadata).

    A missing, truncated or corrupt file, or a tensor holding NaN or infinity, is an AnachronError that names the
    file and tensor.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise AnachronError(f"{path}: no such file; check the path or run the step that writes it")
    try:
        with safe_open(str(path), framework="pt", device=str(device)) as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (safe_open is no dict)
            metadata = dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise AnachronError(
            f"{path}: not a whole safetensors file ({error}); it is truncated or corrupt: copy or write it again"
        ) from error
    _refuse_non_finite(path, tensors)
    return tensors, metadata


def _refuse_non_finite(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise AnachronError(
                f"{path}: tensor {name!r} holds {bad} NaN or infinite values of {tensor.numel()}; the run that made "
                "it diverged: don't use the file, lower its learning rate and run it again"
            )


def digest(source: str | Path | bytes) -> str:
    """SHA-256 of a file's content, or of bytes, as 64 hex digits."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    try:
        with open(source, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise AnachronError(f"{source}: can't be read ({error.strerror}); check the path") from error
