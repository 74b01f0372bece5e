"""transformer-lens's view of a model: hooks at every head and MLP of a copy of it, forward and backward."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.attribution.contrast import NextToken
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Batch, Encoded, pad

HEADS, MLP, ATTENTION = "attn.hook_result", "hook_mlp_out", ("attn.hook_out", "hook_attn_out")
"""Hooks of a block: what each head writes before they are added (and before the norm that Gemma puts after attention),
what the MLP adds to the stream, attention's output before and after that norm."""
Hook = tuple[str, Callable]
"""A hook name, and fn(activation, hook) -> None or what takes the activation's place."""


@dataclass(frozen=True, eq=False)
class Bridge:
    """A model (an adapter switched on included) and transformer-lens's view of a copy of it."""

    lm: LanguageModel
    model: Any

    @property
    def n_heads(self) -> int:
        return int(self.model.cfg.n_heads)

    @property
    def names(self) -> tuple[str, ...]:
        """The components that can be patched: "2.head.0", ..., "2.mlp"."""
        return tuple(
            name
            for layer in range(self.lm.n_layers)
            for name in (*(f"{layer}.head.{h}" for h in range(self.n_heads)), f"{layer}.mlp")
        )

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hook names of what all heads and MLPs write."""
        return tuple(f"blocks.{layer}.{part}" for layer in range(self.lm.n_layers) for part in (HEADS, MLP))

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The keyword arguments of a pass; without the mask the bridge would count positions from the padding."""
        return {"input": batch.input_ids, "attention_mask": batch.attention_mask}

    def last_logits(self, batch: Batch, hooks: Sequence[Hook] = ()) -> Float[Tensor, "prompts d_vocab"]:
        """Logits of every row's last place (rows are padded on the left), fp32; `hooks` run on the way, in order."""
        return self.model.run_with_hooks(**self.inputs(batch), fwd_hooks=list(hooks))[:, -1].float()

    def gradients(
        self, batch: Batch, names: Sequence[str], metric: NextToken, look: Sequence[Hook] = ()
    ) -> tuple[Float[Tensor, " prompts"], dict[str, Tensor]]:
        """The metric, and its gradient in the activation at each hook name, from one forward and one backward pass."""
        leaves: dict[str, Tensor] = {}

        def add_leaf(name: str) -> Callable:
            def hook(x: Tensor, hook: Any) -> Tensor:
                leaves[name] = torch.zeros_like(x, requires_grad=True)
                return x + leaves[name]

            return hook

        with torch.enable_grad():
            value = metric(self.last_logits(batch, [*look, *((name, add_leaf(name)) for name in names)]))
            if value.shape != (len(batch.input_ids),):
                raise AnachronError(f"the metric gave shape {list(value.shape)}; it must give one number a prompt")
            found = torch.autograd.grad(value.sum(), [leaves[name] for name in names])
        return value.detach(), dict(zip(names, found, strict=True))


def bridge(lm: LanguageModel) -> Bridge:
    """transformer-lens's bridge over a copy of a model, LoRA weights merged into the copy (a second copy of weights).

    A copy, since the bridge rebuilds the model it is given; merged, since it reads some weights past their LoRA layers.
    No compatibility mode: nothing is folded or centred. The copy's logits are compared with the model's once.

    Errors: AnachronError for quantized weights, an architecture the bridge doesn't know, or logits that differ.
    """
    from transformer_lens.model_bridge import TransformerBridge

    if lm.quantization is not None:
        raise AnachronError(
            f"{lm.name} is quantized ({lm.quantization}), so its heads can't be told apart; load it plain"
        )
    model = _merged_copy(lm.model)
    if not model.config.architectures:  # the bridge goes by it; a model made in memory may lack it
        model.config.architectures = [type(model).__name__]
    try:
        made = TransformerBridge.boot_transformers(
            lm.name, hf_model=model, tokenizer=_no_tokenizer(), device=str(lm.device), dtype=lm.dtype
        )
        made.set_use_attn_result(True)
    except (ValueError, NotImplementedError, AttributeError) as error:
        raise AnachronError(
            f"{lm.name}: transformer-lens has no bridge for it ({str(error)[:200]}); use interp.hooks, by layer"
        ) from error
    found = Bridge(lm, made)
    _verify(found)
    return found


def _merged_copy(model: nn.Module) -> Any:
    """A copy whose LoRA layers are plain ones again, with the weights they had in effect."""
    from peft.tuners.lora import LoraLayer

    merged: Any = copy.deepcopy(model)
    for path, module in list(merged.named_modules()):
        if isinstance(module, LoraLayer):
            if not module.disable_adapters:
                module.merge(adapter_names=list(module.active_adapters))
            parent, _, name = path.rpartition(".")
            setattr(merged.get_submodule(parent), name, module.get_base_layer())
    return merged


def _no_tokenizer() -> Any:
    """The bridge insists on a tokenizer, and would load its own of the same name; ids are all it is given here."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="a", pad_token="a")


@torch.no_grad()
def _verify(bridged: Bridge) -> None:
    """A wrong mask, position, cap or adapter shows in the logits of two short rows of different lengths."""
    lm = bridged.lm
    ids = [1 + i % 7 for i in range(9)]
    batch = pad([Encoded(tuple(ids), 9), Encoded(tuple(ids[:4]), 4)], lm.pad_id, device=lm.device)
    expected = lm.model(**batch.inputs, use_cache=False).logits[:, -1].float()
    difference = float((bridged.last_logits(batch) - expected).abs().max())
    scale = max(1.0, float(expected.abs().max()))
    if not difference < (1e-4 if lm.dtype == torch.float32 else 5e-2) * scale:
        raise AnachronError(
            f"{lm.name}: logits through transformer-lens's bridge are {difference:.3g} off the model's own; its bridge "
            f"of {type(lm.model).__name__} isn't exact: use interp.hooks, by layer"
        )
