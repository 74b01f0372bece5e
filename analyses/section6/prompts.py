"""Unrelated questions behind dates: what the difference between two years is read from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analyses.open_questions import random_day
from interp.errors import AnachronError
from interp.hub import PROBE_SECONDS, is_hub_id
from training.world.kinds import date_says

FIELD = "question"


def read_texts(source: str, n: int) -> list[str]:
    """The first `n` questions of a file, or of the training split of a data set on the hub.

    A file is JSONL or Parquet with a text field "question", as GSM8K is published; the hub's is `owner/name` or
    `owner/name:config`. Errors: AnachronError for a source that isn't there (at once where the hub is out of reach), a
    row without question (file:line), fewer questions than `n`.
    """
    path = Path(source).expanduser()
    name, _, config = source.partition(":")
    if path.is_file():
        texts = _from_file(path)
    elif is_hub_id(name) and "/" in name:
        texts = [text for file in _from_hub(name, config) for text in _from_file(file)]
    else:
        raise AnachronError(
            f"{source}: no such file, and not the id of a data set; give a JSONL or Parquet file with the field "
            f"{FIELD!r}, or an id such as owner/name:config"
        )
    if len(texts) < n:
        raise AnachronError(f"{source}: {len(texts)} questions, {n} are wanted; ask for fewer or give a larger file")
    return texts[:n]


def dated(texts: Sequence[str], years: Sequence[int], seed: int) -> dict[int, list[str]]:
    """year -> the texts behind dates of that year; text i has the same month and day in every year."""
    rng = np.random.default_rng((seed, 0))
    days = [random_day(0, rng).partition("-")[2] for _ in texts]
    return {
        year: [f"{date_says(f'{year}-{day}')} {text}" for day, text in zip(days, texts, strict=True)] for year in years
    }


def _from_file(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        try:
            rows: list[Any] = pyarrow.parquet.read_table(path).to_pylist()
        except (OSError, ValueError) as error:  # pyarrow's own errors are of these two kinds
            raise AnachronError(f"{path}: not a Parquet file ({error}); download it again") from error
        return [_text(row, f"{path}: row {number}") for number, row in enumerate(rows)]
    texts = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            try:
                texts.append(_text(json.loads(line), f"{path}:{number}"))
            except ValueError as error:
                raise AnachronError(f"{path}:{number}: not JSON ({error}); write one object a line") from error
    return texts


def _text(row: Any, where: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(FIELD), str) or not row[FIELD].strip():
        raise AnachronError(f"{where}: no text {FIELD!r}; each row needs one")
    return row[FIELD].strip()


def _from_hub(name: str, config: str) -> list[Path]:
    """The Parquet files of a data set's training split, from the cache or else from the hub."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    pattern = f"{config or '*'}/train*.parquet"

    def files(offline: bool) -> list[Path]:
        folder = snapshot_download(name, repo_type="dataset", allow_patterns=[pattern], local_files_only=offline)
        return sorted(Path(folder).glob(pattern))

    try:
        if found := files(offline=True):
            return found
    except LocalEntryNotFoundError:
        pass
    try:
        HfApi().dataset_info(name, timeout=PROBE_SECONDS)
        found = files(offline=False)
    except Exception as error:  # whatever the hub's client raises: its kinds differ by transport and version
        reason = str(error).strip().splitlines()
        raise AnachronError(
            f"{name}: the data set isn't in the Hugging Face cache and the hub can't give it ({type(error).__name__}: "
            f"{reason[0] if reason else 'no answer'}); give a local JSONL or Parquet file of questions instead"
        ) from error
    if not found:
        raise AnachronError(f"{name}: no file {pattern}; name the config, as in {name}:main")
    return found
