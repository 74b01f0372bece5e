"""A model's shape without its weights: what a run would take can be told before anything large is read."""

from pathlib import Path

import torch

from interp.anatomy import find_anatomy
from interp.errors import AnachronError
from interp.files import read_json
from interp.hub import is_hub_id, snapshot
from interp.models import LanguageModel, load_tokenizer

_FILES = ["*.json", "*.jinja", "*.model", "*.txt"]


def load_outline(name: str, *, revision: str | None = None, dtype: torch.dtype | None = None) -> LanguageModel:
    """The model of a local folder or hub id with its tokenizer, its parameters on torch's "meta" device: they have
    shape and dtype and no values, so it can't be run. Of a hub id only the small files are fetched.

    Errors: AnachronError as of `load_model`, for what concerns configuration and tokenizer.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    folder, commit = Path(name).expanduser(), None
    if folder.is_dir():
        _check(folder)
    elif is_hub_id(name):
        folder, commit = small_files(name, revision)
    else:
        raise AnachronError(f"{name}: no such folder; check the path, or give a hub id")
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype or config.dtype or torch.float32)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise AnachronError(
            f"{folder}: transformers knows no causal language model of this config.json ({error}); check it"
        ) from error
    model.requires_grad_(False)
    return LanguageModel(model, load_tokenizer(folder), name, commit, find_anatomy(model))


def small_files(name: str, revision: str | None) -> tuple[Path, str]:
    """Folder and commit of a hub id's configuration and tokenizer, without its weights. Errors: as `hub.snapshot`."""
    return snapshot(name, revision, _FILES, _check)


def _check(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise AnachronError(f"{folder}: not a model checkpoint; it has no config.json")
    read_json(folder / "config.json")
