"""The model that a command or an experiment names, opened."""

from typing import TYPE_CHECKING

from interp.errors import AnachronError

if TYPE_CHECKING:
    from interp.models import LanguageModel


def open_model(model: str, revision: str | None, dtype: str, device: str) -> "LanguageModel":
    """Load a model; `dtype` is auto, float32, bfloat16 or float16, `device` as torch spells it.

    Errors: AnachronError for an unknown dtype or a device that this torch can't use, and those of `load_model`.
    """
    import torch

    from interp.models import load_model

    dtypes = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in dtypes:
        raise AnachronError(f"unknown dtype {dtype!r}; use one of {', '.join(dtypes)}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises the second where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise AnachronError(
            f"device {device!r} can't be used ({reason}); use cpu, or a device that torch finds here"
        ) from error
    return load_model(model, revision=revision, dtype=dtypes[dtype], device=device)
