"""Activations on disk, in shards: written resumably, read point by point.

    store.json                              what was asked (model, prompts, points, positions, dtype) and the split
    shard-00000.3.resid_post.safetensors    the rows of one shard at one point, with their digest in the header

A shard holds whole consecutive prompts and is computed by itself, so an interrupted store resumes at the first shard
that is missing and ends with the bytes of an uninterrupted run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.capture import capture, count_rows
from interp.errors import AnachronError
from interp.files import digest, load_tensors, read_json, save_tensors, write_json
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.positions import Positions
from interp.prompts import Encoded

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True, eq=False)
class Store:
    """A complete store. `rows_per_prompt[i]` says how many of the n rows, in input order, belong to prompt i."""

    folder: Path
    points: tuple[HookPoint, ...]
    n: int
    d_model: int
    dtype: torch.dtype
    rows_per_prompt: tuple[int, ...]
    about: Mapping[str, Any]

    def shards(self, point: HookPoint) -> Iterator[Float[Tensor, "rows d_model"]]:
        """The rows at `point`, a shard at a time. A corrupt shard is an AnachronError that names its file."""
        if point not in self.points:
            raise AnachronError(f"{self.folder} has no {point}; it holds {', '.join(map(str, self.points))}")
        for i, rows in enumerate(_shard_rows(self.about)):
            yield _read_shard(self.folder, i, point, (rows, self.d_model), self.dtype)

    def load(self, point: HookPoint) -> Float[Tensor, "n d_model"]:
        """All rows at `point`."""
        return torch.cat(list(self.shards(point)))

    @property
    def prompts(self) -> Int[Tensor, " n"]:
        """For each row, the index of its prompt."""
        return torch.repeat_interleave(torch.tensor(self.rows_per_prompt))


def write_store(
    folder: str | Path,
    lm: LanguageModel,
    encoded: Sequence[Encoded],
    points: Sequence[HookPoint],
    positions: Positions,
    *,
    dtype: str = "bf16",
    shard_rows: int = 65536,
    max_tokens: int = 4096,
) -> Store:
    """Capture into `folder`, at most `shard_rows` rows a shard (a prompt with more has one of its own), and open it.

    Called again with the same arguments after an interruption, it keeps the shards that are there and writes the rest.
    AnachronError: the folder holds another request, shards of another model, or a corrupt shard.
    """
    folder = Path(folder)
    about = _request(lm, encoded, points, positions, dtype, shard_rows, max_tokens)
    if (folder / "store.json").exists():
        _same_request(folder, read_json(folder / "store.json"), about)
    else:
        write_json(folder / "store.json", about)
    for leftover in folder.glob(".shard-*"):  # of a write that was killed
        leftover.unlink()
    checked = False
    first = 0
    for i, (count, rows) in enumerate(zip(about["prompts_per_shard"], _shard_rows(about), strict=True)):
        prompts = encoded[first : first + count]
        first += count
        missing = [p for p in points if not _shard_path(folder, i, p).exists()]
        for point in set(points) - set(missing):
            kept = _read_shard(folder, i, point, (rows, lm.d_model), DTYPES[dtype])
            if not checked:
                _same_model(folder, kept, lm, prompts, point, positions)
                checked = True
        if missing:
            for point, activations in capture(lm, prompts, missing, positions, max_tokens).items():
                _write_shard(_shard_path(folder, i, point), activations.to(DTYPES[dtype]))
    return open_store(folder)


def open_store(folder: str | Path) -> Store:
    """A complete store. One that is missing, unfinished or of another format is an AnachronError."""
    folder = Path(folder)
    about = read_json(folder / "store.json")
    if set(about) != _FIELDS:
        raise AnachronError(
            f"{folder}/store.json has other fields than a store of this version ({sorted(set(about) ^ _FIELDS)}); "
            "write it again, to another folder"
        )
    points = tuple(HookPoint.parse(p) for p in about["points"])
    paths = [_shard_path(folder, i, p) for i in range(len(about["prompts_per_shard"])) for p in points]
    missing = [p for p in paths if not p.exists()]
    if missing:
        raise AnachronError(
            f"{missing[0]} and {len(missing) - 1} more of {len(paths)} shards are missing; "
            "call write_store again with the same arguments to finish the store"
        )
    counts = tuple(about["rows_per_prompt"])
    return Store(folder, points, sum(counts), about["d_model"], DTYPES[about["dtype"]], counts, about)


_FIELDS = {
    "model",
    "revision",
    "d_model",
    "points",
    "positions",
    "dtype",
    "shard_rows",
    "max_tokens",
    "prompts_sha256",
    "rows_per_prompt",
    "prompts_per_shard",
}


def _request(
    lm: LanguageModel,
    encoded: Sequence[Encoded],
    points: Sequence[HookPoint],
    positions: Positions,
    dtype: str,
    shard_rows: int,
    max_tokens: int,
) -> dict[str, Any]:
    if dtype not in DTYPES:
        raise AnachronError(f"dtype {dtype!r}; a store is kept as {' or '.join(DTYPES)}")
    if shard_rows < 1:
        raise AnachronError(f"shard_rows is {shard_rows}; give at least 1")
    if not points or len(set(points)) < len(points):
        raise AnachronError(f"points are {[str(p) for p in points]}; give at least one and each once")
    counts = count_rows(lm, encoded, positions)
    return {
        "model": lm.name,
        "revision": lm.revision,
        "d_model": lm.d_model,
        "points": [str(p) for p in points],
        "positions": positions.name,
        "dtype": dtype,
        "shard_rows": shard_rows,
        "max_tokens": max_tokens,
        "prompts_sha256": digest(repr([(e.ids, e.prompt_len) for e in encoded]).encode()),
        "rows_per_prompt": counts,
        "prompts_per_shard": _prompts_per_shard(counts, shard_rows),
    }


def _prompts_per_shard(counts: Sequence[int], shard_rows: int) -> list[int]:
    """Consecutive prompts are added to a shard until the next would overfill it."""
    prompts: list[int] = []
    rows = 0
    for count in counts:
        if not prompts or (rows and rows + count > shard_rows):
            prompts.append(0)
            rows = 0
        prompts[-1] += 1
        rows += count
    return prompts


def _shard_rows(about: Mapping[str, Any]) -> list[int]:
    counts, rows, first = about["rows_per_prompt"], [], 0
    for prompts in about["prompts_per_shard"]:
        rows.append(sum(counts[first : first + prompts]))
        first += prompts
    return rows


def _same_request(folder: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    differing = [key for key in asked if there.get(key) != asked[key]]
    if differing:
        raise AnachronError(
            f"{folder} holds a store with other {', '.join(differing)}; write to another folder or delete this one"
        )


def _same_model(
    folder: Path,
    kept: Float[Tensor, "rows d_model"],
    lm: LanguageModel,
    prompts: Sequence[Encoded],
    point: HookPoint,
    positions: Positions,
) -> None:
    """A name doesn't pin the weights: the first prompt must give now what lies in its shard, up to rounding."""
    first = next(prompt for prompt in prompts if count_rows(lm, [prompt], positions) != [0])
    now = capture(lm, [first], [point], positions)[point].float()
    then = kept[: len(now)].float()
    off = float((now - then).norm() / then.norm())
    coarse = torch.bfloat16 in (kept.dtype, lm.dtype)
    if not off < (0.05 if coarse else 1e-3):
        raise AnachronError(
            f"{folder}: its activations at {point} are {off:.1%} away from those of {lm.name} now, so another model or "
            "adapter wrote them; write to another folder or delete this one"
        )


def _shard_path(folder: Path, i: int, point: HookPoint) -> Path:
    return folder / f"shard-{i:05d}.{point}.safetensors"


def _write_shard(path: Path, rows: Float[Tensor, "rows d_model"]) -> None:
    save_tensors(path, {"activations": rows}, {"sha256": _digest(rows)})


def _read_shard(
    folder: Path, i: int, point: HookPoint, shape: tuple[int, int], dtype: torch.dtype
) -> Float[Tensor, "rows d_model"]:
    path = _shard_path(folder, i, point)
    tensors, metadata = load_tensors(path)
    rows = tensors["activations"] if set(tensors) == {"activations"} else None
    if rows is None or tuple(rows.shape) != shape or rows.dtype != dtype or metadata.get("sha256") != _digest(rows):
        raise AnachronError(
            f"{path}: its content isn't what was written there; delete the file and call write_store again "
            "with the same arguments"
        )
    return rows


def _digest(rows: Float[Tensor, "rows d_model"]) -> str:
    return digest(rows.contiguous().view(torch.uint8).numpy().tobytes())
