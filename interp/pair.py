"""One base model and any number of LoRA adapters over a single copy of its weights."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interp.adapters import PREFIX, read_adapter
from interp.errors import AnachronError
from interp.files import digest
from interp.hooks import keyword
from interp.models import AdapterInfo, LanguageModel

BASE = "base"


class ModelPair:
    """A base model and its adapters, each usable as a LanguageModel.

        with ModelPair(base) as pair:
            pair.add("tuned-0", "runs/birds/0")
            with pair.using("tuned-0") as lm: ...
            with pair.rows(["base", "tuned-0"]) as lm: ...

    Adapters live inside the base's own linear layers and are switched off outside of these contexts, so `base`
    itself goes on giving the plain model's results, bit by bit, and adapters cost no second copy of the weights.
    `remove` (or leaving the context) takes them out again.
    """

    def __init__(self, base: LanguageModel) -> None:
        if _lora_layers(base.model):
            raise AnachronError(f"{base.name} already carries adapters; remove the pair that added them first")
        self.base = base
        self._peft: Any = None
        self._names: list[str] = [BASE]
        self._adapters: dict[str, AdapterInfo] = {}
        self._active = BASE
        self._mixed = False

    def __enter__(self) -> "ModelPair":
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    @property
    def names(self) -> tuple[str, ...]:
        """ "base" and the adapters, in the order added."""
        return tuple(self._names)

    def adapter(self, name: str) -> AdapterInfo | None:
        """Where an adapter comes from, for provenance and caches; None for "base"."""
        self._require([name])
        return self._adapters.get(name)

    def add(self, name: str, adapter: str | Path, revision: str | None = None, *, check_base: bool = True) -> None:
        """Load the LoRA adapter that peft saved in a folder, or a hub id at a revision
        (adapter_config.json, adapter_model.safetensors).

        Errors: AnachronError for a taken name, an id out of reach, missing, truncated or NaN files, an adapter of
        another kind than plain LoRA on linear layers, one that names another base than this one (unless check_base is
        False), or one made for a base of other dimensions or another number of layers.
        """
        from peft import PeftModel, set_peft_model_state_dict

        if name in self._names or not name or "." in name or name == "__base__":
            raise AnachronError(
                f"adapter name {name!r} is taken, empty or holds a dot; taken are {', '.join(self._names)}"
            )
        if self._mixed or self._active != BASE:
            raise AnachronError(f"can't add {name!r} inside `using` or `rows`; add adapters before entering them")
        read = read_adapter(adapter, self.base, revision=revision, check_base=check_base)
        # low_cpu_mem_usage: without it peft draws initial weights from the global generator, only to overwrite them
        try:
            if self._peft is None:
                with warnings.catch_warnings():
                    # peft 0.21 reads this attribute of every model it wraps, which transformers 5.24 has renamed
                    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
                    self._peft = PeftModel(self.base.model, read.config, adapter_name=name, low_cpu_mem_usage=True)
            else:
                self._peft.add_adapter(name, read.config, low_cpu_mem_usage=True)
        except ValueError as error:
            raise AnachronError(
                f"{adapter}: peft can't place it in {self.base.name} ({error}); check its config"
            ) from error
        self._names.append(name)
        try:
            result = set_peft_model_state_dict(self._peft, read.tensors, adapter_name=name, low_cpu_mem_usage=True)
            missing = [key for key in result.missing_keys if key.endswith(f".{name}.weight")]
            if missing or result.unexpected_keys:
                raise AnachronError(
                    f"{adapter}: adapter_config.json and the weights disagree (without weights: {missing[:3]}, "
                    f"without place: {result.unexpected_keys[:3]}); it was made for another base than "
                    f"{self.base.name}, or the files are of two runs"
                )
        except (AnachronError, RuntimeError) as error:
            self._discard(name)
            if isinstance(error, AnachronError):
                raise
            raise AnachronError(
                f"{adapter}: an adapter as adapter_config.json describes it can't take these weights ({error}); the "
                "files are of two runs"
            ) from error
        _bring_in(self.base.model, name, read.tensors)
        self._adapters[name] = read.info
        self._peft.eval()
        self._activate(BASE)

    def remove(self) -> None:
        """Take all adapters out: the base's modules are its own again."""
        if self._mixed or self._active != BASE:
            raise AnachronError("can't remove adapters inside `using` or `rows`; leave them first")
        if self._peft is not None:
            self._peft.unload()
            self._peft = None
            self._names = [BASE]
            self._adapters = {}

    @contextmanager
    def using(self, name: str) -> Iterator[LanguageModel]:
        """The model with one adapter on, or with none ("base"). Contexts nest; each restores what it found, also on
        exceptions."""
        self._require([name])
        if self._mixed:
            raise AnachronError(
                f"can't switch to {name!r} inside `rows`, which assigns adapters row by row; leave it first"
            )
        before = self._active
        try:
            self._activate(name)
            yield self._model(name, self._adapters.get(name))
        finally:
            self._activate(before)

    @contextmanager
    def rows(self, names: Sequence[str]) -> Iterator[LanguageModel]:
        """The model with row i of every batch passing through adapter names[i], all in one forward pass.

        Every batch run inside must have len(names) rows. A row gets what `using(its name)` would give in a batch of
        that shape; in half precision but for one more rounding in each adapted layer, peft's.
        """
        self._require(names)
        if self._mixed:
            raise AnachronError("`rows` inside `rows`; leave the outer one first")
        before = self._active
        layers = _lora_layers(self.base.model)
        try:
            self._activate(next((name for name in names if name != BASE), BASE))
            self._mixed = True
            with keyword(layers, "adapter_names", ["__base__" if name == BASE else name for name in names]):
                yield self._model("|".join(names), self._mixture(names))
        except ValueError as error:
            if "adapter_names" not in str(error):
                raise
            raise AnachronError(
                f"a batch inside `rows` hasn't the {len(names)} rows it names ({error}); give one name a row"
            ) from error
        finally:
            self._mixed = False
            self._activate(before)

    def _model(self, name: str, adapter: AdapterInfo | None) -> LanguageModel:
        # an adapter may sit on the unembedding: look it up anew
        anatomy = replace(self.base.anatomy, unembed=self.base.model.get_output_embeddings())
        name = f"{self.base.name}+{name}" if name != BASE else self.base.name
        return replace(self.base, name=name, anatomy=anatomy, adapter=adapter)

    def _mixture(self, names: Sequence[str]) -> AdapterInfo:
        """What stands for the adapters of all rows, so that no cache takes a mixture for one of its parts."""
        found = [self._adapters.get(name) for name in names]
        digests = digest("|".join(info.digest if info else BASE for info in found).encode())
        matched = "name" if all(info is None or info.matched == "name" for info in found) else "shapes"
        return AdapterInfo("|".join(info.source if info else BASE for info in found), None, digests, None, matched)

    def _require(self, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in self._names]
        if unknown or not names:
            raise AnachronError(f"unknown adapters {unknown}; the pair has {', '.join(self._names)}: add them first")

    def _activate(self, name: str) -> None:
        """Switch all LoRA layers; a walk over all modules, so once a batch, never once a row."""
        self._active = name
        if self._peft is None:
            return
        if name == BASE:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.base_model.set_adapter(name, inference_mode=True)

    def _discard(self, name: str) -> None:
        self._names.remove(name)
        if self._names == [BASE]:
            self.remove()
        else:
            self._peft.delete_adapter(name)
            self._activate(BASE)


def _lora_layers(model: nn.Module) -> list[nn.Module]:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _bring_in(model: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Put an adapter's matrices where their layers compute, in fp32 or better.

    peft rounds them to a base of half precision, and beside weights that wait on the CPU or on disk leaves them on
    those weights' meta device, without numbers.
    """
    from peft.tuners.lora import LoraLayer

    for path, module in model.named_modules():
        if isinstance(module, LoraLayer) and name in module.lora_A:
            layer = module.get_base_layer()
            weight = layer.weight
            device = layer._hf_hook.execution_device if weight.is_meta else weight.device
            dtype = torch.promote_types(weight.dtype, torch.float32) if weight.is_floating_point() else torch.float32
            for part, matrices in (("A", module.lora_A), ("B", module.lora_B)):
                matrix = tensors[f"{PREFIX}{path}.lora_{part}.weight"].to(device, dtype)
                matrices[name].weight = nn.Parameter(matrix, requires_grad=False)
