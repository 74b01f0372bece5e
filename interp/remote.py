"""Models run by nnsight: in this process, or on NDIF's machines (`interp.remote_ndif`).

A `RemoteModel` is a LanguageModel, and what measures one takes it as it is: `capture` and `moments`, `score`,
`log_probs` and perplexity, `generate`, each with its edits. Every forward (all of a generation's together) is one
nnsight trace, which applies the functions that hooks would have applied, and which brings back only the rows, the
log-probabilities or the tokens asked for, never activations or logits of whole batches. `interp.hooks`' own contexts
reach a model in this process alone.

What importing nnsight does to a process: every object gets a method `save`, Tensor.backward is patched, and `-v` among
the command's arguments turns its debugging on. So it is imported when a RemoteModel is made, not before.

What runs inside a trace, here and behind `interp.steering.changes`, is sent as source text to a machine that has torch
but not this package: it may use torch, nnsight and functions of `interp` that obey the same rule, and no annotations
with shapes.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from interp.anatomy import SITES
from interp.behavior.sampling import continued, decode
from interp.capture import forward
from interp.errors import AnachronError
from interp.hooks import EditFunction, HookPoint, require_points
from interp.models import LanguageModel, input_device
from interp.prompts import Batch
from interp.steering import Edit, changes, run

# attn_out and resid_mid are read off the same module: edits of both keep the order in which they were given
_STAGES = {"resid_pre": 0, "attn_out": 1, "resid_mid": 1, "mlp_out": 2, "resid_post": 3}

# An input to trace with. The real one travels inside the job, where nnsight doesn't pad or complete it in its own way.
_NOTHING = torch.zeros(1)


@dataclass(frozen=True)
class RemoteModel(LanguageModel):
    """A LanguageModel whose forwards are nnsight traces.

    `traced` is nnsight's TransformersModel. `remote`: False runs in this process, True on NDIF, where `model` has no
    weights here; "local" runs in this process what would be sent, packed and unpacked, to see that it can be.
    """

    traced: Any = field(repr=False, kw_only=True)
    remote: bool | str = field(default=False, kw_only=True)

    @property
    def device(self) -> torch.device:
        """Where inputs go: on NDIF they leave from the CPU."""
        return torch.device("cpu") if self.remote is True else input_device(self.model)


def through_nnsight(lm: LanguageModel, remote: bool | str = False) -> RemoteModel:
    """The same model, run by nnsight in this process: adapters, placement and quantization stay as they are."""
    if remote not in (False, "local"):
        raise AnachronError(
            f"remote {remote!r} of {lm.name}, a model in this process; use False, or the rehearsal 'local'"
        )
    nnsight = load_nnsight()
    traced = nnsight.TransformersModel(lm.model, tokenizer=lm.tokenizer, task="text-generation")
    return RemoteModel(
        lm.model,
        lm.tokenizer,
        lm.name,
        lm.revision,
        lm.anatomy,
        lm.adapter,
        lm.quantization,
        traced=traced,
        remote=remote,
    )


def load_nnsight() -> Any:
    """The library, told to send the code of this package along with what it sends."""
    import nnsight

    nnsight.register("interp")
    return nnsight


@run.register
def _run(
    lm: RemoteModel,
    batch: Batch,
    inputs: Mapping[str, Any],
    reduce: Callable[[Tensor], Tensor],
    edits: Sequence[Edit] = (),
) -> Tensor:
    nnsight = load_nnsight()
    places = _places(lm, changes(lm, edits, batch))
    job = partial(_reduced, lm.traced, dict(inputs), reduce)
    with _told(lm), lm.traced.trace(_NOTHING, fn=job, remote=lm.remote) as tracer:
        _visit(places, 0)
        result = nnsight.save(tracer.result)
    return result.cpu()


@forward.register
def _forward(
    lm: RemoteModel, batch: Batch, points: Sequence[HookPoint], selected: Bool[Tensor, "batch pos"]
) -> Iterator[tuple[HookPoint, Float[Tensor, "rows d_model"]]]:
    nnsight = load_nnsight()
    if not points:
        raise AnachronError("no hook points to record; give at least one")
    points = sorted(set(points), key=lambda p: (p.layer, SITES.index(p.site)))
    places = _places(lm, dict.fromkeys(points, ()), selected.flatten().nonzero().squeeze(1))
    job = partial(_reduced, lm.traced, batch.inputs, _unread)
    with _told(lm), lm.traced.trace(_NOTHING, fn=job, remote=lm.remote) as tracer:
        rows = nnsight.save(_visit(places, 0))
        tracer.stop()
    yield from zip(points, rows, strict=True)


@continued.register
def _continued(
    lm: RemoteModel,
    batch: Batch,
    edits: Sequence[Edit],
    draws: Float64[Tensor, "rows steps"],
    temperature: float | int,
    stops: Sequence[int],
) -> Int[Tensor, "rows new"]:
    nnsight = load_nnsight()
    places = _places(lm, changes(lm, edits, batch))
    job = partial(_decoded, lm.traced, batch.inputs, draws, temperature, list(stops))
    steps, width = draws.shape[1], batch.input_ids.shape[1]
    with _told(lm), warnings.catch_warnings():
        # rows that stop early leave the loop waiting for steps that don't come; nnsight drops it and says so
        warnings.filterwarnings("ignore", message=".*was never reached")
        with lm.traced.trace(fn=job, remote=lm.remote) as tracer:
            with tracer.invoke(_NOTHING):
                for step in tracer.iter[:steps]:
                    _visit(places, width + step - 1 if step else 0)
            with tracer.invoke():
                tokens = nnsight.save(tracer.result)
    return tokens.cpu()


@contextmanager
def _told(lm: RemoteModel) -> Iterator[None]:
    """Failures of the service as an AnachronError."""
    if lm.remote is not True:
        yield
        return
    from nnsight.intervention.backends.remote import RemoteError
    from websocket import WebSocketException

    try:
        yield
    except (RemoteError, WebSocketException, OSError) as error:
        lines = str(error).strip().splitlines()
        raise AnachronError(
            f"{lm.name} on NDIF: {type(error).__name__}: {lines[-1] if lines else 'no reason given'}; check the key, "
            "and that the model still runs there"
        ) from error


def _places(
    lm: RemoteModel, functions: Mapping[HookPoint, Sequence[EditFunction]], rows: Tensor | None = None
) -> list[tuple]:
    """(site, nnsight's module, functions, rows to keep) of each point, in the order in which a forward meets them."""
    if lm.remote is True and (unseen := [p for p in functions if p.site not in lm.anatomy.sites]):
        raise AnachronError(
            f"hook point {unseen[0]}: on NDIF there are {', '.join(lm.anatomy.sites)} alone; the others are found by "
            "watching a forward pass of weights that are here"
        )
    require_points(lm, list(functions))
    wanted = {point: (list(each), rows) for point, each in functions.items()}
    for point in functions:
        if point.site == "resid_mid":  # is what entered the block plus what attention adds
            wanted.setdefault(HookPoint(point.layer, "resid_pre"), ([], None))
    modules = {id(envoy._module): envoy for envoy in lm.traced.modules()}
    parts = {"attn_out": lm.anatomy.attention_outs, "mlp_out": lm.anatomy.mlp_outs}
    parts["resid_mid"] = parts["attn_out"]
    return [
        (point.site, modules[id(parts.get(point.site, lm.anatomy.layers)[point.layer])], *wanted[point])
        for point in sorted(wanted, key=lambda p: (p.layer, _STAGES[p.site]))
    ]


# --- what runs where the weights are ---


def _visit(places: list, offset: int) -> list:
    """In a trace: apply the functions of each place, as `interp.hooks.edit` does, and return the rows that are kept."""
    kept = []
    entered: Any = None
    for site, envoy, functions, rows in places:
        if site == "resid_pre":
            args, kwargs = envoy.inputs
            x = args[0] if args else kwargs["hidden_states"]
        else:
            output = envoy.output
            x = output if torch.is_tensor(output) else output[0]
        if site == "resid_mid":
            before = entered.to(x.device)
            x = before + x
        new = x
        for function in functions:
            new = function(new, offset).to(x)
        if site == "resid_pre":
            entered = new
        if rows is not None:
            kept.append(new.flatten(0, 1).index_select(0, rows.to(new.device)))
        if new is x:
            continue
        if site == "resid_pre":
            envoy.inputs = ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})
        else:
            new = new - before if site == "resid_mid" else new
            envoy.output = new if torch.is_tensor(output) else (new, *output[1:])
    return kept


def _reduced(traced: Any, inputs: dict, reduce: Callable, nothing: Any) -> Any:
    """One forward without gradients, and what is wanted of its logits."""
    with torch.no_grad():
        return reduce(traced._module(**_moved(inputs, traced._module), use_cache=False).logits)


def _decoded(traced: Any, inputs: dict, draws: Tensor, temperature: float | int, stops: list, nothing: Any) -> Any:
    """The tokens of all steps of a generation."""
    with torch.no_grad():
        return decode(traced._module, _moved(inputs, traced._module), draws, temperature, stops)


def _unread(logits: Any) -> Any:
    return logits[:0, :0, :0]


def _moved(value: Any, model: Any) -> Any:
    """Inputs on the model's device, masks in its dtype."""
    if isinstance(value, dict):
        return {name: _moved(each, model) for name, each in value.items()}
    if not torch.is_tensor(value):
        return value
    dtype = model.get_output_embeddings().weight.dtype if value.is_floating_point() else value.dtype
    return value.to(input_device(model), dtype)
