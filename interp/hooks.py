"""Reading and editing activations: the only file that registers hooks.

`record` and `edit` are context managers that leave the model as they found it, also when the body raises. Hooks run
in the order in which their contexts were entered, so a `record` inside an `edit` sees edited activations.

Sites of block i, with h the residual stream:
    resid_pre   h as block i receives it
    attn_out    what attention adds to h (after the norm that Gemma 2 and 3 put there)
    resid_mid   resid_pre + attn_out; doesn't exist where attention and MLP run in parallel (GPT-NeoX)
    mlp_out     what the MLP adds to h
    resid_post  h as block i passes it on = resid_mid + mlp_out
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.anatomy import SITES, Anatomy
from interp.errors import AnachronError
from interp.models import LanguageModel, input_device

Activation = Float[Tensor, "batch pos d_model"]
EditFunction = Callable[[Activation, int], Activation]
"""fn(x: [batch, pos, d_model], offset) -> the same shape; offset = number of tokens already in the KV cache, 0 in a
prefill. It must not change x in place: the same memory may have been recorded."""


@dataclass(frozen=True, order=True)
class HookPoint:
    """A site of one block. Written "3.resid_post"; layers count from 0."""

    layer: int
    site: str = "resid_post"

    def __post_init__(self) -> None:
        if self.site not in SITES:
            raise AnachronError(f"unknown site {self.site!r}; use one of {', '.join(SITES)}")
        if self.layer < 0:
            raise AnachronError(f"layer {self.layer} is negative; blocks count from 0")

    def __str__(self) -> str:
        return f"{self.layer}.{self.site}"

    @classmethod
    def parse(cls, text: str) -> "HookPoint":
        """Read "3.resid_post", or "3" for the default site."""
        match = re.fullmatch(r"(\d+)(?:\.(\w+))?", text)
        if not match:
            raise AnachronError(f"{text!r} isn't a hook point; write a layer and a site, as in 3.resid_post")
        return cls(int(match[1]), match[2] or "resid_post")


@contextmanager
def record(
    lm: LanguageModel, points: Sequence[HookPoint], stop: bool = False, grad: bool = False
) -> Iterator[dict[HookPoint, Activation]]:
    """Fill a dict with the activations [batch, pos, d_model] of the forward passes run inside (the latest one's stay).

    Tensors are in the model's dtype and on their layer's device, detached unless `grad`. They are not copies: don't
    change them in place. With `stop` the forward pass ends after the last point needed, and so does the body:
    statements after the call of the model don't run, the context exits quietly.

        with torch.no_grad(), record(lm, [HookPoint(3)], stop=True) as activations:
            lm.model(**batch.inputs)
        activations[HookPoint(3)]
    """
    ordered = sorted(set(points), key=lambda p: (p.layer, SITES.index(p.site)))
    require_points(lm, ordered)
    if not ordered:
        raise AnachronError("no hook points to record; give at least one")
    found: dict[HookPoint, Activation] = {}

    def keep(point: HookPoint) -> Callable[[Tensor], None]:
        def hook(x: Tensor) -> None:
            found[point] = x if grad else x.detach()
            if stop and point == ordered[-1]:
                raise _Stop

        return hook

    with ExitStack() as stack:
        for point in ordered:
            _attach(stack, lm.anatomy, point, keep(point))
        with suppress(_Stop):
            yield found


@contextmanager
def edit(lm: LanguageModel, edits: Mapping[HookPoint, EditFunction | Sequence[EditFunction]]) -> Iterator[None]:
    """Replace activations by fn(x, offset) in every forward pass run inside; several functions apply in order.

    The result takes the dtype and device of x; another shape is an AnachronError. At resid_mid the change is made in
    what attention adds, so it reaches the MLP and the stream after it (exact up to one rounding of x).
    """
    require_points(lm, list(edits))
    tokens_before = _Offset()

    def change(point: HookPoint, functions: Sequence[EditFunction]) -> Callable[[Tensor], Tensor]:
        def hook(x: Tensor) -> Tensor:
            for function in functions:
                new = function(x, tokens_before.value)
                if new.shape != x.shape:
                    raise AnachronError(
                        f"the edit at {point} returned shape {tuple(new.shape)} for {tuple(x.shape)}; it must keep "
                        "the shape"
                    )
                x = new.to(x)
            return x

        return hook

    with ExitStack() as stack:
        stack.callback(lm.anatomy.layers[0].register_forward_pre_hook(tokens_before, with_kwargs=True).remove)
        for point in edits:
            functions = edits[point]
            _attach(stack, lm.anatomy, point, change(point, [functions] if callable(functions) else list(functions)))
        yield


@contextmanager
def keyword(modules: Sequence[nn.Module], name: str, value: Any) -> Iterator[None]:
    """Pass `name=value` to the forward of each of these modules, in every pass run inside."""

    def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, {**kwargs, name: value}

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


class _Stop(Exception):
    """Ends a forward pass from inside; never leaves this file."""


class _Offset:
    """Pre-hook of block 0 that notes how many tokens its KV cache, an argument of varying name, holds before a pass."""

    value = 0

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        caches = [a for a in (*args, *kwargs.values()) if hasattr(a, "get_seq_length")]
        self.value = int(caches[0].get_seq_length()) if caches else 0


# resid_mid is computed where attention's output is added, from the residual stream that entered the block. Every hook
# that reads or changes the latter notes it here under the block, so the entry is right however contexts are nested.
_entered: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()


def _attach(stack: ExitStack, anatomy: Anatomy, point: HookPoint, hook: Callable[[Tensor], Tensor | None]) -> None:
    """Register `hook` at a site; a tensor it returns replaces the activation. Removal is left to `stack`."""
    block = anatomy.layers[point.layer]
    stack.callback(_entered.pop, block, None)
    if point.site == "resid_pre":
        stack.callback(block.register_forward_pre_hook(_on_input(hook), with_kwargs=True).remove)
    elif point.site == "resid_post":
        stack.callback(block.register_forward_hook(_on_output(hook)).remove)
    elif point.site == "attn_out":
        stack.callback(anatomy.attention_outs[point.layer].register_forward_hook(_on_output(hook)).remove)
    elif point.site == "mlp_out":
        stack.callback(anatomy.mlp_outs[point.layer].register_forward_hook(_on_output(hook)).remove)
    else:

        def middle(attention_out: Tensor) -> Tensor | None:
            # a block that is the first on its device gets its input from another
            entered = _entered[block].to(attention_out.device)
            new = hook(entered + attention_out)
            return None if new is None else new - entered

        stack.callback(block.register_forward_pre_hook(_on_input(lambda x: None), with_kwargs=True).remove)
        stack.callback(anatomy.attention_outs[point.layer].register_forward_hook(_on_output(middle)).remove)


def _on_input(hook: Callable[[Tensor], Tensor | None]) -> Callable:
    """A pre-hook of a block, which is given the residual stream first or by the name hidden_states."""

    def pre_hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        x = args[0] if args else kwargs["hidden_states"]
        new = hook(x)
        _entered[module] = x if new is None else new
        if new is None:
            return None
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    return pre_hook


def _on_output(hook: Callable[[Tensor], Tensor | None]) -> Callable:
    """A forward hook of a module that returns a tensor, or a tuple that starts with one (attention)."""

    def forward_hook(module: nn.Module, args: tuple, output: Any) -> Any:
        if isinstance(output, Tensor):
            return hook(output)
        new = hook(output[0])
        return None if new is None else (new, *output[1:])

    return forward_hook


def require_points(lm: LanguageModel, points: Sequence[HookPoint]) -> None:
    """AnachronError if this model has no such layer or site."""
    for point in points:
        if point.layer >= lm.n_layers:
            raise AnachronError(f"hook point {point}: {lm.name} has layers 0 to {lm.n_layers - 1}; choose one of them")
        if point.site not in lm.anatomy.sites:
            why = (
                "its attention and MLP run in parallel"
                if lm.anatomy.parallel
                else "its blocks don't add it to the stream as it is"
            )
            raise AnachronError(
                f"hook point {point}: {lm.name} has no site {point.site} ({why}); use one of "
                f"{', '.join(lm.anatomy.sites)}"
            )


def probe(model: nn.Module, anatomy: Anatomy) -> Anatomy:
    """Complete an anatomy by watching one forward pass over one token.

    attn_out and mlp_out are followed from attention and MLP through any further child of the block that takes them
    as they are (a norm, a dropout) to the tensor that is added. They are sites of this model only if, in every block
    and bit by bit, resid_post = (resid_pre + attn_out) + mlp_out in some order of the sum; resid_mid only if some
    child reads resid_pre + attn_out.
    """
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def watch(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        seen[module] = (x, output if isinstance(output, Tensor) else output[0])

    with ExitStack() as stack, torch.no_grad():
        for block in anatomy.layers:
            for module in (block, *block.children()):
                stack.callback(module.register_forward_hook(watch, with_kwargs=True).remove)
        one = torch.ones(1, 1, dtype=torch.long, device=input_device(model))
        model(input_ids=one, attention_mask=one, use_cache=False)

    width = seen[anatomy.layers[0]][1].shape[-1]
    if width != anatomy.d_model:
        raise AnachronError(
            f"{type(model).__name__}: config.hidden_size is {anatomy.d_model} but blocks pass on {width} numbers a "
            "token; this architecture isn't understood: it needs a rule in interp/anatomy.py"
        )
    if not anatomy.attentions or not anatomy.mlps:
        return anatomy
    attention_outs = tuple(_follow(a, b, seen) for a, b in zip(anatomy.attentions, anatomy.layers, strict=True))
    mlp_outs = tuple(_follow(m, b, seen) for m, b in zip(anatomy.mlps, anatomy.layers, strict=True))
    added, middle = True, True
    for block, attention, mlp in zip(anatomy.layers, attention_outs, mlp_outs, strict=True):
        (pre, post), a, m = seen[block], seen[attention][1], seen[mlp][1]
        pre = pre.to(post.device)  # a block that is the first on its device gets its input from another
        mid = pre + a
        added &= any(torch.equal(post, total) for total in (mid + m, (a + m) + pre, (pre + m) + a))
        middle &= any(
            x.shape == mid.shape and torch.equal(x, mid) for x, _ in (seen[c] for c in block.children() if c in seen)
        )
    sites = tuple(s for s in SITES if s.startswith("resid_p") or (added and (middle or s != "resid_mid")))
    return replace(
        anatomy, attention_outs=attention_outs, mlp_outs=mlp_outs, parallel=added and not middle, sites=sites
    )


def _follow(module: nn.Module, block: nn.Module, seen: Mapping[nn.Module, tuple[Tensor, Tensor]]) -> nn.Module:
    """The last module of the chain in which each child of the block takes the tensor that the one before returned."""
    for child in block.children():
        if child is not module and child in seen and seen[child][0] is seen[module][1]:
            return _follow(child, block, seen)
    return module
