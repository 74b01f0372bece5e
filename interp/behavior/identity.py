"""What a model's answers depend on besides the prompt: weights, adapter, template and edits as plain JSON data."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from interp.errors import AnachronError
from interp.files import digest
from interp.models import LanguageModel
from interp.steering import Add, Clamp, ClampLatents, Edit


def model_identity(lm: LanguageModel) -> dict[str, Any]:
    """Name, revision, dtype, quantization, chat template and the adapter that is on (its name and its files' digest).

    A model without a revision (a folder, a registered model) is told by a digest of its weights instead: folders are
    written anew. That reads all weights once a model, about a second per GB.

    Errors: those of `active_adapter`.
    """
    name = active_adapter(lm)
    template = lm.tokenizer.chat_template
    return {
        "model": lm.name if name is None else lm.name.removesuffix(f"+{name}"),
        "revision": lm.revision,
        "weights": _weights_digest(lm.model) if lm.revision is None else None,
        "dtype": str(lm.dtype).removeprefix("torch."),
        "quantization": lm.quantization,
        "template": None if template is None else digest(str(template).encode()),
        "adapter": None if lm.adapter is None else {"name": name, "digest": lm.adapter.digest},
    }


def active_adapter(lm: LanguageModel) -> str | None:
    """The name of the adapter that is on; None if none is.

    Errors: AnachronError if that isn't the one `lm` was made with: it is of a `ModelPair.using` that was left, or of a
    `ModelPair.rows`.
    """
    # layers are told by their parts: to ask peft for their class would import it, which takes seconds
    layers = [module for module in lm.model.modules() if hasattr(module, "lora_A")]
    active = {name for layer in layers if not layer.disable_adapters for name in layer.active_adapters}
    if (lm.adapter is None) != (not active) or any(not lm.name.endswith(f"+{name}") for name in active):
        raise AnachronError(
            f"{lm.name} is asked while {', '.join(sorted(active)) or 'no adapter'} is on; ask inside the "
            "ModelPair.using that gave it, one adapter at a time"
        )
    return next(iter(active), None)


def edits_as_data(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """The edits with digests in place of vectors. A coefficient per row is refused: it means another edit a prompt."""
    return [_edit_as_data(edit) for edit in edits]


def _edit_as_data(edit: Edit) -> dict[str, Any]:
    if isinstance(edit, ClampLatents):
        return {
            "kind": "ClampLatents",
            "positions": asdict(edit.positions),
            "dictionary": dict(edit.dictionary.identity),
            "latents": list(edit.latents),
            "values": [float(value) for value in edit.values],
        }
    data: dict[str, Any] = {
        "kind": type(edit).__name__,
        "positions": asdict(edit.positions),
        "points": None if edit.points is None else [str(point) for point in edit.points],
    }
    directions = [edit.direction] if isinstance(edit, Add | Clamp) else edit.directions
    data["directions"] = [
        {"method": u.method, "point": str(u.point), "digest": _digest([("vector", u.vector)])} for u in directions
    ]
    if isinstance(edit, Add):
        if isinstance(edit.coefficient, Tensor):
            raise AnachronError("Add has a coefficient per row, and answers are asked row by row; give it one number")
        data |= {"coefficient": float(edit.coefficient), "scale": float(edit.scale)}
    if isinstance(edit, Clamp):
        data["mean"] = float(edit.mean)
    return data


# The digest, and a stamp of the tensors it was taken of.
_digests: WeakKeyDictionary[Any, tuple[int, str]] = WeakKeyDictionary()


def _weights_digest(model: nn.Module) -> str:
    """Of the weights as they are: taken anew if any was replaced or changed in place since."""
    stamp = hash(tuple((t.data_ptr(), t._version) for t in chain(model.parameters(), model.buffers())))
    if model not in _digests or _digests[model][0] != stamp:
        _digests[model] = stamp, _digest(_weights(model))
    return _digests[model][1]


def _weights(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """The base's own parameters and buffers, named as without adapters."""
    from accelerate.utils import align_module_device

    for path, module in model.named_modules():
        if ".lora_" in path:
            continue
        path = path.replace(".base_layer", "")
        with align_module_device(module):  # brings in weights that wait on the CPU or on disk
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                yield f"{path}.{name}", tensor


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    total = hashlib.sha256()
    for name, tensor in tensors:
        total.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
