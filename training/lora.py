"""LoRA adapters on a model that is given back untouched: attach, read out, write in peft's own format."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import AnachronError
from interp.files import save_tensors, write_json
from interp.models import LanguageModel


def linear_names(lm: LanguageModel) -> list[str]:
    """Names of the linear maps inside the blocks, relative to a block: what `targets` may name and what "all-linear"
    means. The unembedding is not among them."""
    if any(hasattr(module, "base_layer") for module in lm.model.modules()):
        raise AnachronError(f"{lm.name} already carries an adapter; fine-tune the plain base model")
    names = {name for layer in lm.anatomy.layers for name, module in layer.named_modules() if _is_linear(module)}
    return sorted(names)


def lora_config(
    lm: LanguageModel,
    *,
    rank: int,
    alpha: float | int,
    targets: str | Sequence[str] = "all-linear",
    layers: Sequence[int] | None = None,
    rslora: bool = False,
) -> Any:
    """The `peft.LoraConfig` of an adapter dW = s B A, s = alpha / rank (alpha / sqrt(rank) with `rslora`, 2312.03732).

    `targets`: "all-linear" or names of linear maps (a last part such as "down_proj" or a path such as
    "mlp.down_proj"); `layers`: 0-based blocks, None for all. An unknown name or layer raises `AnachronError` with the
    valid ones.
    """
    from peft import LoraConfig

    known = linear_names(lm)
    names = known if targets == "all-linear" else [targets] if isinstance(targets, str) else list(targets)
    unknown = [name for name in names if not any(_names(name, path) for path in known)]
    if unknown or not names:
        raise AnachronError(f'{lm.name} has no linear map {unknown}; targets are "all-linear" or some of {known}')
    outside = [layer for layer in layers or () if not 0 <= layer < lm.n_layers]
    if outside or (layers is not None and not layers):
        raise AnachronError(f"{lm.name} has no layers {outside}; layers are None (all) or some of 0..{lm.n_layers - 1}")
    transposed = any(_is_conv1d(module) for layer in lm.anatomy.layers for module in layer.modules())
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # peft annotates int and takes any number
        lora_dropout=0.0,
        bias="none",
        use_rslora=rslora,
        target_modules=sorted(set(names)),
        layers_to_transform=None if layers is None else sorted(set(layers)),
        fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
    )


@contextmanager
def attached(lm: LanguageModel, config: Any, *, seed: int, name: str = "default") -> Iterator[dict[str, nn.Parameter]]:
    """Attach a fresh adapter (fp32, A ~ Kaiming uniform drawn from `seed`, B = 0); yields its parameters by the names
    peft gives them on disk.

    Afterwards, also after an exception, every module, attribute and gradient flag of the model is the one it had
    before, so its logits are bit for bit the same. The global random state is left alone.
    """
    from peft import inject_adapter_in_model

    model = lm.model
    modules = dict(model.named_modules())
    expected = adapted_names(lm, modules, config)
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    attributes = set(vars(model))
    try:
        with torch.random.fork_rng(devices=[lm.device] if lm.device.type == "cuda" else []):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model, adapter_name=name)
        weights = _weights(model, name)
        if other := {key.rpartition(".lora_")[0].removeprefix(_PREFIX) for key in weights} ^ expected:
            raise AnachronError(f"peft adapted other modules than asked for: {sorted(other)}; check targets and layers")
        yield weights
    finally:
        for path, module in modules.items():
            if path and model.get_submodule(path) is not module:
                parent, _, child = path.rpartition(".")
                setattr(model.get_submodule(parent), child, module)
        for attribute in set(vars(model)) - attributes:
            delattr(model, attribute)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
            parameter.grad = None


def write_adapter(out: Path, lm: LanguageModel, config: Any, weights: Mapping[str, Tensor]) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, loadable by peft. Equal weights give equal bytes:
    peft's own writer orders sets by a hash that changes from process to process and records the base model's path on
    this machine; here sets are sorted and the base goes by its name."""
    fields = config.to_dict() | {"base_model_name_or_path": public_name(lm), "revision": lm.revision}
    fields["inference_mode"] = True
    write_json(out / "adapter_config.json", {key: _plain(fields[key]) for key in sorted(fields)})
    tensors = {key: weight.detach().cpu().contiguous() for key, weight in sorted(weights.items())}
    save_tensors(out / "adapter_model.safetensors", tensors, {"format": "pt"})


def public_name(lm: LanguageModel) -> str:
    """The model's name without a path on this machine: a directory goes by its last part."""
    return Path(lm.name).resolve().name if Path(lm.name).is_dir() else lm.name


_PREFIX = "base_model.model."  # what peft puts before module names on disk


def _weights(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    weights = {}
    for path, parameter in model.named_parameters():
        if ".lora_" in path:
            parameter.data = parameter.data.float()
            weights[_PREFIX + path.replace(f".{name}.", ".")] = parameter
    return weights


def adapted_names(lm: LanguageModel, modules: Mapping[str, nn.Module], config: Any) -> set[str]:
    """Paths in `modules`, the model's named ones, of the linear maps that `config` puts an adapter on."""
    paths = {id(module): path for path, module in modules.items()}
    layers = range(lm.n_layers) if config.layers_to_transform is None else config.layers_to_transform
    return {
        paths[id(module)]
        for layer in layers
        for path, module in lm.anatomy.layers[layer].named_modules()
        if _is_linear(module) and any(_names(name, path) for name in config.target_modules)
    }


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or _is_conv1d(module)


def _is_conv1d(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def _names(name: str, path: str) -> bool:
    return path == name or path.endswith("." + name)


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value
