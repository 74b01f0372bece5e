"""sae-lens's table of published SAEs: where a release and an id lie on the hub. Read without importing sae-lens."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from interp.errors import AnachronError

READ = {
    None,
    "sae_lens",
    "dictionary_learning_1",
    "gemma_2",
    "gemma_3",
    "llama_scope",
    "goodfire",
    "qwen_scope",
    "deepseek_r1",
}
"""Kinds of file in the table (its conversion_func) that are read here; None are sae-lens's own."""


@dataclass(frozen=True)
class Release:
    """An SAE of the table: hub repository, folder in it, model, and what holds in place of its own configuration."""

    repository: str
    folder: str
    model: str
    overrides: Mapping[str, Any]


def is_release(source: str) -> bool:
    """Whether a source is written as release:id; a release's name has no slash."""
    return ":" in source and "/" not in source.partition(":")[0]


def release_of(source: str) -> Release:
    """Look a release:id up. Errors: AnachronError if the table lacks it (naming what is close), or isn't installed,
    or if the SAE is of a kind that isn't read."""
    name, _, sae_id = source.partition(":")
    table = _table()
    if name not in table:
        close = get_close_matches(name, table, n=3, cutoff=0.4)
        raise AnachronError(f"{source}: no release {name!r} in sae-lens's table; close: {', '.join(close) or 'none'}")
    entry = table[name]
    folders = {str(sae["id"]): str(sae["path"]) for sae in entry["saes"]}
    if sae_id not in folders:
        close = [own for own in folders if sae_id in own][:3] or get_close_matches(sae_id, folders, n=3, cutoff=0.0)
        raise AnachronError(f"{source}: {name} has {len(folders)} SAEs and none {sae_id!r}; as {', '.join(close)}")
    if entry.get("conversion_func") not in READ:
        raise AnachronError(
            f"{source}: its files are of the kind {entry['conversion_func']!r}, which isn't read; load it with "
            "sae-lens, whose save_model writes a folder that is"
        )
    return Release(entry["repo_id"], folders[sae_id], entry["model"], entry.get("config_overrides") or {})


@cache
def _table() -> dict[str, Any]:
    spec = find_spec("sae_lens")
    if spec is None or not spec.submodule_search_locations:
        raise AnachronError("sae-lens, whose table says where releases are, isn't installed; pip install sae-lens")
    import yaml

    text = (Path(spec.submodule_search_locations[0]) / "pretrained_saes.yaml").read_bytes()
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
