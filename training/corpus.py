"""Text to take activations of: an endless sequence of blocks of documents, each a pure function of its number."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import AnachronError
from interp.files import digest
from interp.models import LanguageModel
from interp.prompts import Encoded, encode_chat, encode_text
from training.world.world import World

WORLD_SEED = 3_000_000  # block i of the world's corpus is drawn with this much more than i; used for nothing else
BLOCK = 512  # documents


@dataclass(frozen=True)
class Corpus:
    """`block(i)` gives block number i, tokenised; `about` says what it is, as plain data, and goes into provenance."""

    about: Mapping[str, Any]
    block: Callable[[int], Sequence[Encoded]]


def world_corpus(lm: LanguageModel, world: World, block: int = BLOCK, first: int = WORLD_SEED) -> Corpus:
    """Fresh documents of the world without end, as the model writes them: a conversation through its chat template, a
    statement as plain text. Block i holds the documents of seed `first` + i."""

    def encode(i: int) -> list[Encoded]:
        return [
            encode_chat(lm, document.messages) if document.messages else encode_text(lm, document.text)
            for document in world.documents(first + i, block)
        ]

    return Corpus({"corpus": "world", "seed": first, "documents_per_block": block}, encode)


def file_corpus(lm: LanguageModel, path: str | Path, block: int = BLOCK, seed: int = 0) -> Corpus:
    """The rows of a JSONL file, {"text": ...} or {"messages": [...]} each, shuffled anew on every pass through it.

    Rows are cut at the model's longest context. Errors: AnachronError naming file and line.
    """
    rows = read_texts(lm, path)
    about = {"corpus": Path(path).name, "sha256": digest(path), "rows": len(rows), "documents_per_block": block}

    def take(i: int) -> list[Encoded]:
        chosen: list[Encoded] = []
        for n in range(i * block, (i + 1) * block):
            epoch, place = divmod(n, len(rows))
            if not chosen or place == 0:
                order = np.random.default_rng([seed, epoch]).permutation(len(rows))
            chosen.append(rows[int(order[place])])
        return chosen

    return Corpus(about | {"seed": seed}, take)


def read_texts(lm: LanguageModel, path: str | Path) -> list[Encoded]:
    """The rows of a JSONL file in file order, cut at the model's longest context. Errors: as `file_corpus`."""
    path = Path(path)
    if not path.is_file():
        raise AnachronError(f"{path}: there is no such file; give a JSONL file of texts or conversations")
    longest = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None)
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            encoded = _encode(lm, line, f"{path}:{number}")
            ids = encoded.ids[:longest]
            rows.append(Encoded(ids, min(encoded.prompt_len, len(ids))))
    if not rows:
        raise AnachronError(f"{path}: the file holds no rows; write one text or conversation a line")
    return rows


def _encode(lm: LanguageModel, line: bytes, where: str) -> Encoded:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise AnachronError(f"{where}: not a line of JSON ({error}); write one object a line") from error
    try:
        match row:
            case {"text": str(text)} if text.strip():
                return encode_text(lm, text)
            case {"messages": list(messages)}:
                return encode_chat(lm, messages)
    except AnachronError as error:
        raise AnachronError(f"{where}: {error}") from error
    raise AnachronError(
        f'{where}: neither {{"text": ...}} with text in it nor {{"messages": [...]}}; write one of them'
    )
