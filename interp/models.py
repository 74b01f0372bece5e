"""A causal language model ready to be measured: weights, tokenizer, and where its parts are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from interp.anatomy import Anatomy, find_anatomy
from interp.errors import AnachronError
from interp.files import read_json
from interp.hub import is_hub_id, snapshot

ENTRY_POINTS = "anachron.models"
"""Entry-point group of registered models; the value is a callable that returns the path of a checkpoint."""

_FILES = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class AdapterInfo:
    """Which adapter: its folder or hub id, the hub's commit, SHA-256 over its two files, the base it says it is for,
    and whether the base it was added to is that one by "name", or known to fit by "shapes" only."""

    source: str
    revision: str | None
    digest: str
    base: str | None
    matched: str


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
        """Where inputs go and outputs come back to; single layers may be elsewhere (`device_map`)."""
        return input_device(self.model)

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


def input_device(model: Any) -> torch.device:
    """Where a model takes its inputs: the device of the input embedding, or the one an offloaded embedding computes on.

    With layers on several devices, accelerate carries activations from one to the next and the outputs back to here.
    """
    embedding = model.get_input_embeddings()
    if embedding.weight.device.type == "meta":
        return torch.device(embedding._hf_hook.execution_device)
    return embedding.weight.device


def wrap(
    model: nn.Module, tokenizer: Any, name: str, revision: str | None = None, quantization: str | None = None
) -> LanguageModel:
    """A LanguageModel around a model in memory: set to eval mode, gradients off, its parts found and its sites verified
    by one forward pass over one token.

    Errors: AnachronError if the architecture isn't understood.
    """
    from interp.hooks import probe  # here, since hooks takes LanguageModel from this file

    model.eval()
    model.requires_grad_(False)
    anatomy = probe(model, find_anatomy(model))
    return LanguageModel(model, tokenizer, name, revision, anatomy, quantization=quantization)


def load_model(
    name: str | Path,
    *,
    revision: str | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    device_map: str | Mapping[str, str | int] | None = None,
    quantization: str | None = None,
) -> LanguageModel:
    """Load a causal LM, frozen and in eval mode.

    name: a registered model ("almanac"), a local folder, or a hub id. revision: commit, tag or branch of a hub id; the
    commit found is kept as `revision`. dtype: the checkpoint's own unless given. device_map, in place of device:
    "auto", "balanced" or another word of accelerate's, to spread the layers over all GPUs (and CPU memory, if they
    don't fit); or a mapping of module paths to devices, where "cpu" and "disk" keep weights there until they are
    needed. quantization: "4bit" (NF4) or "8bit", of linear layers but the unembedding, with bitsandbytes. Weights are
    read from safetensors only and no code of the checkpoint is run. A tokenizer without a chat template is used with
    `interp.prompts.PLAIN_TEMPLATE`.

    Errors: AnachronError, at once, for a hub id that is neither cached nor within reach, a missing folder, missing,
    truncated or NaN weights (naming file or tensor), a tokenizer that doesn't fit the embedding, an architecture not
    understood, a device map that doesn't cover the model, bitsandbytes missing.
    """
    name = str(name)
    placement = _placement(device, device_map, quantization)
    if quantization is not None:
        placement["quantization_config"] = _quantization_config(quantization, dtype)
    folder, commit = _resolve(name, revision)
    _check_folder(folder)
    model: Any = _load_weights(folder, dtype, placement)
    if not placement:
        model = model.to(device)
    if isinstance(device_map, Mapping):
        _refuse_unplaced(model, device_map)
    _refuse_non_finite(folder, model)
    tokenizer = load_tokenizer(folder)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise AnachronError(
            f"{folder}: the tokenizer has {len(tokenizer)} ids and the embedding {rows} rows; they are of two "
            "checkpoints: take both from one"
        )
    return wrap(model, tokenizer, name, commit, quantization)


def _placement(
    device: str | torch.device, device_map: str | Mapping[str, str | int] | None, quantization: str | None
) -> dict[str, Any]:
    """What from_pretrained has to be told about devices; nothing for a model that is moved to its one device later."""
    if device_map is None:
        # quantized weights are made on their device and can't be moved
        return {} if quantization is None else {"device_map": {"": device}}
    if torch.device(device).type != "cpu":
        raise AnachronError(f"device {device} and device_map {device_map!r} both say where weights go; leave one out")
    return {"device_map": device_map if isinstance(device_map, str) else dict(device_map)}


def _refuse_unplaced(model: nn.Module, device_map: Mapping[str, str | int]) -> None:
    names = [f"{name}." for name, _ in model.named_parameters()]
    left = [name[:-1] for name in names if not any(not part or name.startswith(f"{part}.") for part in device_map)]
    if left:
        raise AnachronError(
            f"the device map leaves out {', '.join(left[:3])} ({len(left)} tensors); give their modules devices too"
        )


def _quantization_config(quantization: str, dtype: torch.dtype | None) -> Any:
    if quantization not in ("4bit", "8bit"):
        raise AnachronError(f"unknown quantization {quantization!r}; use 4bit, 8bit, or none")
    if find_spec("bitsandbytes") is None:
        raise AnachronError(
            f"quantization {quantization} is done by the package bitsandbytes, which isn't installed; pip install "
            "bitsandbytes, or load the weights as they are"
        )
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype or torch.bfloat16
    )


def _resolve(name: str, revision: str | None) -> tuple[Path, str | None]:
    """The folder of a name, and its commit if it is a hub id."""
    registered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    folder = Path(name).expanduser()
    if name in registered or folder.is_dir():
        if revision is not None:
            raise AnachronError(f"revision {revision!r} given for {name}; only hub ids have revisions: leave it out")
        return (Path(registered[name].load()()) if name in registered else folder), None
    names = ", ".join(sorted(registered))
    if not is_hub_id(name):
        raise AnachronError(f"{name}: no such folder; check the path, or name one of {names or 'no'} registered models")
    try:
        return snapshot(name, revision, _FILES, _check_folder)
    except AnachronError as error:
        known = names or "none is: install the package with pip install -e ."
        raise AnachronError(f"{name!r} is not a registered model ({known}): {error}") from error


def _refuse_non_finite(folder: Path, model: nn.Module) -> None:
    from accelerate.utils import align_module_device

    for path, module in model.named_modules():
        with align_module_device(module):  # brings in weights that wait on the CPU or on disk
            own = chain(module.named_parameters(path, recurse=False), module.named_buffers(path, recurse=False))
            for tensor_name, tensor in own:
                saved = tensor_name.rpartition(".")[2] not in module._non_persistent_buffers_set
                if saved and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise AnachronError(
                        f"{folder}: tensor {tensor_name!r} holds NaN or infinite values; the checkpoint is "
                        "damaged or its training diverged: use another checkpoint"
                        + (
                            ", or load it with dtype=torch.float32 if it overflows float16"
                            if tensor.dtype == torch.float16
                            else ""
                        )
                    )


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


def _load_weights(folder: Path, dtype: torch.dtype | None, placement: Mapping[str, Any]) -> nn.Module:
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
            **placement,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise AnachronError(
            f"{folder}: transformers can't load it as a causal language model ({error}); check config.json"
            + (" and the device map" if placement else "")
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


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer saved in a folder, as it was saved."""
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
