"""LoRA adapters as peft publishes them: found by folder or hub id, checked against the base, read."""

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from interp.errors import AnachronError
from interp.files import digest, load_tensors, read_json
from interp.hub import cached_id, is_hub_id, snapshot
from interp.models import AdapterInfo, LanguageModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

PREFIX = "base_model.model."
"""What peft writes before the path of a module in an adapter's file."""
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that move part of the base's weights
_MORE_THAN_LORA = ("alora_invocation_tokens", "arrow_config", "layer_replication", "use_bdlora", "use_qalora")


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter:
    """What was read: where from, peft's `LoraConfig`, and the matrices A [r, inputs] and B [outputs, r] by peft's
    names."""

    info: AdapterInfo
    config: Any
    tensors: dict[str, Tensor]


def read_adapter(
    source: str | Path, base: LanguageModel, *, revision: str | None = None, check_base: bool = True
) -> Adapter:
    """Read an adapter and check it against its base: by name, then module by module.

    source: a folder or a hub id (with a revision to pin). Names are compared where both are hub ids; a base in a
    folder, unless it is a snapshot in the hub's cache, has no name to compare, and dimensions must do.

    Errors: AnachronError, at once, for an id out of reach, missing, truncated or NaN files, weights not in safetensors,
    another base (unless check_base is False), another kind of adapter than plain LoRA on linear layers.
    """
    folder, commit = _resolve(str(source), revision)
    fields = read_json(folder / CONFIG)
    named = fields.get("base_model_name_or_path")
    _check_kind(folder / CONFIG, fields)
    checked = _check_base_name(str(source), named, base, check_base)
    config = _config(folder / CONFIG, fields)
    tensors, _ = load_tensors(folder / WEIGHTS, device=base.device)
    _check_shapes(folder / WEIGHTS, tensors, base)
    files = digest((digest(folder / CONFIG) + digest(folder / WEIGHTS)).encode())
    return Adapter(AdapterInfo(str(source), commit, files, named, checked), config, tensors)


def _resolve(source: str, revision: str | None) -> tuple[Path, str | None]:
    """The folder of an adapter, and its commit if it is a hub id."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise AnachronError(f"revision {revision!r} given for {source}; only hub ids have revisions: leave it out")
        _check_folder(folder)
        return folder, None
    if not is_hub_id(source):
        raise AnachronError(f"{source}: no such folder; an adapter is a folder holding {CONFIG} and {WEIGHTS}")
    return snapshot(source, revision, [CONFIG, WEIGHTS], _check_folder)


def _check_folder(folder: Path) -> None:
    for file in (CONFIG, WEIGHTS):
        if (folder / file).is_file():
            continue
        if file == WEIGHTS and (folder / "adapter_model.bin").is_file():
            raise AnachronError(
                f"{folder}: its weights are a pickle (adapter_model.bin), which can run code; only {WEIGHTS} is read: "
                "if you trust where it comes from, load it with peft and write it by save_pretrained"
            )
        if file == CONFIG and (folder / "config.json").is_file():
            raise AnachronError(f"{folder}: a whole model, no adapter; load it with load_model")
        raise AnachronError(
            f"{folder / file}: no such file; an adapter is a folder holding {CONFIG} and {WEIGHTS} (no .bin is read)"
        )


def _check_kind(path: Path, fields: dict[str, Any]) -> None:
    if fields.get("peft_type") != "LORA":
        raise AnachronError(f"{path}: peft_type is {fields.get('peft_type')!r}; only LORA adapters are read")
    if beyond := [name for name in _MORE_THAN_LORA if fields.get(name)]:
        raise AnachronError(f"{path}: it sets {', '.join(beyond)}; only plain LoRA is read: merge it into a checkpoint")
    start = fields.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise AnachronError(
            f"{path}: init_lora_weights is {start!r}, so it goes with a base whose weights were changed; convert it to "
            "a plain LoRA (peft: save_pretrained with path_initial_model_for_weight_conversion)"
        )


def _check_base_name(source: str, named: Any, base: LanguageModel, check: bool) -> str:
    """How the base was compared with the one that the adapter names: "name", or only "shapes"."""
    ours = base.name if base.revision is not None else cached_id(base.name) or base.name
    if named == ours:
        return "name"
    comparable = (isinstance(name, str) and is_hub_id(name) and "/" in name for name in (named, ours))
    if not check or Path(ours).is_dir() or not all(comparable):
        return "shapes"
    if named.lower() == ours.lower():
        return "name"
    raise AnachronError(
        f"{source}: the adapter was tuned on {named}, and the base is {ours}; load {named}, or, if the base is a copy "
        "of it under another name, add the adapter with check_base=False (or load the base from a local folder)"
    )


def _config(path: Path, fields: dict[str, Any]) -> Any:
    from peft import LoraConfig

    # what matrices are drawn from doesn't matter, since they are replaced
    fields = {**fields, "init_lora_weights": True, "eva_config": None, "inference_mode": True}
    try:
        return LoraConfig.from_peft_type(**fields)
    except (TypeError, ValueError) as error:
        raise AnachronError(
            f"{path}: peft can't read it ({error}); it is damaged or was written by another peft"
        ) from error


def _check_shapes(path: Path, tensors: dict[str, Tensor], base: LanguageModel) -> None:
    modules = dict(base.model.named_modules())
    for key, tensor in tensors.items():
        module, _, part = key.removeprefix(PREFIX).rpartition(".lora_")
        if part not in ("A.weight", "B.weight"):
            raise AnachronError(
                f"{path}: tensor {key!r} isn't a LoRA matrix of a linear layer; adapters that change other weights "
                "(DoRA, biases, modules_to_save, embeddings) have to be merged into a checkpoint, which load_model "
                "then loads"
            )
        if module not in modules:
            raise AnachronError(
                f"{path}: made for a module {module!r} that {base.name} ({base.n_layers} layers) doesn't have; use the "
                "base it was tuned on"
            )
        expected = _features(modules[module], module)[part == "B.weight"]
        found = tensor.shape[1] if part == "A.weight" else tensor.shape[0]
        if found != expected:
            raise AnachronError(
                f"{path}: {module} has {found} {'outputs' if part == 'B.weight' else 'inputs'} in the adapter and "
                f"{expected} in {base.name} (d_model {base.d_model}); use the base it was tuned on"
            )


def _features(module: nn.Module, path: str) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer, or of GPT-2's Conv1D, which stores its weight the other way round."""
    from peft.tuners.lora import LoraLayer
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, LoraLayer):
        module = module.get_base_layer()
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return module.weight.shape[0], module.weight.shape[1]
    raise AnachronError(f"an adapter for {path}, a {type(module).__name__}; only adapters on linear layers are read")
