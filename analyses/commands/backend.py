"""What runs a model: hooks in this process, or nnsight, here or on NDIF's machines."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from interp.errors import AnachronError

if TYPE_CHECKING:
    from torch import Tensor

    from interp.hooks import HookPoint
    from interp.models import LanguageModel
    from interp.pair import ModelPair
    from interp.positions import Positions
    from interp.prompts import Encoded
    from interp.remote_ndif import NdifPair

Backend = Annotated[str, typer.Option(help="hooks, or nnsight: the same numbers by another library, here or --remote.")]
Remote = Annotated[
    bool,
    typer.Option(
        "--remote",
        help="Run it on NDIF: with --backend nnsight, hub ids of model and adapters, and a key in NDIF_API_KEY.",
    ),
]


def open_pair(
    load: "Callable[[], LanguageModel]",
    backend: str,
    remote: bool,
    model: str,
    revision: str | None,
    placement: tuple[str, str, str | None, str | None],
) -> "ModelPair | NdifPair":
    """A pair around the model as `backend` runs it; `load` loads it into this process, with this `placement` (dtype,
    device, device_map, quantization).

    Errors: AnachronError for an unknown backend, --remote with hooks or a placement, and those of opening the model.
    """
    from interp.pair import ModelPair

    if backend not in ("hooks", "nnsight"):
        raise AnachronError(f"unknown backend {backend!r}; use hooks or nnsight")
    if not remote:
        if backend == "hooks":
            return ModelPair(load())
        from interp.remote import through_nnsight

        return ModelPair(through_nnsight(load()))
    if backend == "hooks":
        raise AnachronError("--remote with --backend hooks: hooks reach models in this process alone; use nnsight")
    if placement != ("auto", "cpu", None, None):
        raise AnachronError(
            "--dtype, --device, --device-map or --quantization with --remote: NDIF chooses; leave it out"
        )
    from interp.remote_ndif import NdifPair, open_ndif

    return NdifPair(open_ndif(model, revision=revision))


def capture_all(
    pair: "ModelPair | NdifPair", encoded: "Sequence[Encoded]", points: "Sequence[HookPoint]", positions: "Positions"
) -> "dict[str, dict[HookPoint, Tensor]]":
    """`capture` under every name of the pair; on NDIF one after the other, since its members share no batch."""
    from interp.capture import capture, capture_pair
    from interp.pair import ModelPair

    if isinstance(pair, ModelPair):
        return capture_pair(pair, pair.names, encoded, points, positions)
    found = {}
    for name in pair.names:
        with pair.using(name) as lm:
            found[name] = capture(lm, encoded, points, positions)
    return found
