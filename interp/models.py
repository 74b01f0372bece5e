"""A causal language model ready to be measured: weights, tokenizer, and where its parts are."""

import queue
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from torch import nn

from interp.anatomy import Anatomy, find_anatomy
from interp.errors import AnachronError
from interp.files import read_json

ENTRY_POINTS = "anachron.models"
"""Entry-point group of registered models; the value is a callable that returns the path of a checkpoint."""

PROBE_SECONDS = 4.0
"""How long the hub may take to answer before it counts as out of reach (its own client retries for 46-49 s)."""

_FILES = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]
_UNWANTED = ["*/*", "consolidated*"]  # other formats' copies of the same weights
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class AdapterInfo:
    """Which adapter: its folder or hub id, the hub's commit, SHA-256 over its two files, the base it says it is for."""

    source: str
    revision: str | None
    digest: str
    base: str | None


@dataclass(frozen=True)
class LanguageModel:
    """A frozen model in eval mode, its tokenizer and anatomy.

    `name`, `revision`, `adapter` (switched on by a ModelPair) and `quantization` go into a result's provenance and
    into the key of whatever is cached.
    """

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    name: str
    revision: str | None
    anatomy: Anatomy = field(repr=False)
    adapter: AdapterInfo | None = None
    quantization: str | None = None

    @property
    def n_layers(self) -> int:
        return self.anatomy.n_layers

    @property
    def d_model(self) -> int:
        return self.anatomy.d_model

    @property
    def device(self) -> torch.device:
        return self.model.get_output_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_output_embeddings().weight.dtype

    @property
    def pad_id(self) -> int:
        """The id to pad with. Pads are masked, so a tokenizer without a pad token lends its end-of-text or id 0."""
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        return 0


def wrap(model: nn.Module, tokenizer: Any, name: str, revision: str | None = None) -> LanguageModel:
    """A LanguageModel around a model in memory: set to eval mode, gradients off, its parts found and its sites verified
    by one forward pass over one token.

    Errors: AnachronError if the architecture isn't understood.
    """
    from interp.hooks import probe  # here, since hooks takes LanguageModel from this file

    model.eval()
    model.requires_grad_(False)
    return LanguageModel(model, tokenizer, name, revision, probe(model, find_anatomy(model)))


def load_model(
    name: str | Path,
    *,
    revision: str | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> LanguageModel:
    """Load a causal LM, frozen and in eval mode.

    name: a registered model ("almanac"), a local folder, or a hub id. revision: commit, tag or branch of a hub id; the
    commit found is kept as `revision`. dtype: the checkpoint's own unless given. Weights are read from safetensors
    only and no code of the checkpoint is run. A tokenizer without a chat template is used with
    `interp.prompts.PLAIN_TEMPLATE`.

    Errors: AnachronError, at once, for a hub id that is neither cached nor within reach, a missing folder, missing,
    truncated or NaN weights (naming file or tensor), a tokenizer that doesn't fit the embedding, an architecture not
    understood.
    """
    name = str(name)
    folder, commit = _resolve(name, revision)
    _check_folder(folder)
    model: Any = _load_weights(folder, dtype).to(device)
    for tensor_name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise AnachronError(
                f"{folder}: tensor {tensor_name!r} holds NaN or infinite values; the checkpoint is damaged or its "
                "training diverged: use another checkpoint"
                + (
                    ", or load it with dtype=torch.float32 if it overflows float16"
                    if tensor.dtype == torch.float16
                    else ""
                )
            )
    tokenizer = _load_tokenizer(folder)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise AnachronError(
            f"{folder}: the tokenizer has {len(tokenizer)} ids and the embedding {rows} rows; they are of two "
            "checkpoints: take both from one"
        )
    return wrap(model, tokenizer, name, commit)


def _resolve(name: str, revision: str | None) -> tuple[Path, str | None]:
    """The folder of a name, and its commit if it is a hub id."""
    registered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    folder = Path(name).expanduser()
    if name in registered or folder.is_dir():
        if revision is not None:
            raise AnachronError(f"revision {revision!r} given for {name}; only hub ids have revisions: leave it out")
        return (Path(registered[name].load()()) if name in registered else folder), None
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name):
        raise AnachronError(
            f"{name}: no such folder; check the path, or name one of {', '.join(sorted(registered)) or 'no'} "
            "registered models"
        )
    return _from_hub(name, revision, sorted(registered))


def _from_hub(name: str, revision: str | None, registered: list[str]) -> tuple[Path, str]:
    """The snapshot of a hub id: the cached one if it is whole, else downloaded if the hub answers in time."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    def snapshot(offline: bool) -> Path:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=_FILES, ignore_patterns=_UNWANTED, local_files_only=offline
            )
        )

    try:
        folder = snapshot(offline=True)
        _check_folder(folder)
        return folder, folder.name
    except (LocalEntryNotFoundError, HFValidationError, AnachronError):
        pass  # not cached, in part, or not even a possible id, as the hub will say
    error = _within(PROBE_SECONDS, lambda: HfApi().model_info(name, revision=revision, timeout=PROBE_SECONDS))
    if error is not None:
        raise AnachronError(
            f"{name!r} is not a registered model "
            f"({', '.join(registered) or 'none is: install the package with pip install -e .'}), not a local folder, "
            f"not whole in the Hugging Face cache, and the hub can't provide it ({type(error).__name__}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no answer'}); give a local folder, or "
            "connect, unset HF_HUB_OFFLINE, and log in if the model is gated"
        ) from error
    folder = snapshot(offline=False)
    return folder, folder.name


def _within(seconds: float, call: Callable[[], object]) -> Exception | None:
    """None if `call` returns in time, else its exception or a TimeoutError.

    In a thread, since resolving a host name can't be timed out.
    """
    answer: queue.Queue[Exception | None] = queue.Queue()

    def run() -> None:
        try:
            call()
            answer.put(None)
        except Exception as error:  # handed to the caller whatever it is
            answer.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        return TimeoutError(f"no answer within {seconds:.0f} s")


def _check_folder(folder: Path) -> None:
    """Refuse a folder that lacks a part of a checkpoint or holds a truncated file, before anything is built from it."""
    from safetensors import SafetensorError, safe_open

    if not folder.is_dir():
        raise AnachronError(f"{folder}: no such folder; check the path or run the step that writes it")
    if not (folder / "config.json").is_file():
        remedy = "it has no config.json"
        if (folder / "adapter_config.json").is_file():
            remedy = "it holds an adapter: load its base and use ModelPair.add"
        raise AnachronError(f"{folder}: not a model checkpoint; {remedy}")
    read_json(folder / "config.json")
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise AnachronError(f"{folder}: no tokenizer ({', '.join(_TOKENIZER_FILES)}); save it beside the weights")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = [folder / shard for shard in sorted(set(read_json(index)["weight_map"].values()))]
    else:
        shards = [folder / "model.safetensors"]
    for shard in shards:
        if not shard.is_file():
            raise AnachronError(
                f"{shard}: missing; weights are read from safetensors only (no .bin, no .pt): convert or copy them"
            )
        try:
            with safe_open(str(shard), framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise AnachronError(
                f"{shard}: not a whole safetensors file ({error}); copy or download it again"
            ) from error


def _load_weights(folder: Path, dtype: torch.dtype | None) -> nn.Module:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype="auto" if dtype is None else dtype,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise AnachronError(
            f"{folder}: transformers can't load it as a causal language model ({error}); check config.json"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    if info["missing_keys"]:
        raise AnachronError(
            f"{folder}: no weights for {', '.join(sorted(info['missing_keys'])[:3])} ({len(info['missing_keys'])} "
            "tensors), which would be random; config.json and weights are of two models, or a shard is missing"
        )
    return model


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    config = folder / "tokenizer_config.json"
    saved_class = read_json(config).get("tokenizer_class") if config.is_file() else None
    # AutoTokenizer goes by the model's type and rebuilds a generic tokenizer as that family's, with tokens added or
    # text split otherwise
    generic = saved_class in ("PreTrainedTokenizerFast", "TokenizersBackend") and (folder / "tokenizer.json").is_file()
    loader = PreTrainedTokenizerFast if generic else AutoTokenizer
    try:
        return loader.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise AnachronError(
            f"{folder}: its tokenizer can't be loaded ({error}); save it beside the weights again"
        ) from error
