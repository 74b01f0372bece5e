"""Where the parts of a causal LM are: blocks, attentions, MLPs, final norm, unembedding.

Parts are found by structure, with exactly one match each, so no table of architectures has to be kept. What is
*added to the residual stream* is not always an attention's or MLP's own output (Gemma 2 and 3 norm it first,
GPT-NeoX passes it through a dropout), so `interp.hooks.probe` follows it in one forward pass and completes the
fields left empty here.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from interp.errors import AnachronError

SITES = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
"""The five sites of a block, in the order in which a forward pass meets them."""


@dataclass(frozen=True)
class Anatomy:
    """The parts of one model; entry i of every tuple belongs to block i.

    `attention_outs` / `mlp_outs` are the modules whose output is added to the residual stream. `sites` are the sites
    that exist and were verified on this model: with `parallel` blocks (attention and MLP read the same input, as in
    GPT-NeoX) there is no resid_mid. An architecture whose blocks have no attention or MLP module of their own (OPT,
    Mamba) has an empty tuple there and only resid_pre and resid_post.
    """

    layers: tuple[nn.Module, ...]
    attentions: tuple[nn.Module, ...]
    mlps: tuple[nn.Module, ...]
    attention_outs: tuple[nn.Module, ...]
    mlp_outs: tuple[nn.Module, ...]
    final_norm: nn.Module
    unembed: nn.Module
    n_layers: int
    d_model: int
    parallel: bool
    sites: tuple[str, ...]


def find_anatomy(model: nn.Module) -> Anatomy:
    """Locate the parts of a Hugging Face causal LM, plain or carrying PEFT layers.

    Errors: AnachronError when a part has no match or several, naming the candidates.
    """
    base: Any = model
    if hasattr(base, "get_base_model"):
        base = base.get_base_model()
    config = base.config.get_text_config()
    n_layers = int(config.num_hidden_layers)
    parent, blocks = _block_list(base, n_layers)
    layers = tuple(blocks)
    attentions = _children(layers, ("attention",))
    mlps = _children(layers, ("mlp", "moe", "moeblock", "feedforward"))
    unembed = base.get_output_embeddings()
    if unembed is None:
        raise AnachronError(f"{type(base).__name__} has no output embeddings; load it as a causal language model")
    return Anatomy(
        layers=layers,
        attentions=attentions,
        mlps=mlps,
        attention_outs=attentions,
        mlp_outs=mlps,
        final_norm=_final_norm(parent, blocks),
        unembed=unembed,
        n_layers=n_layers,
        d_model=int(config.hidden_size),
        parallel=False,
        sites=("resid_pre", "resid_post"),
    )


def _block_list(model: nn.Module, n_layers: int) -> tuple[nn.Module, nn.ModuleList]:
    """The module that owns the blocks, and the list of them: the one outermost ModuleList of n_layers entries."""
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    outer = [(name, m) for name, m in found if not any(name.startswith(f"{other}.") for other, _ in found)]
    if len(outer) != 1:
        raise AnachronError(
            f"{type(model).__name__}: expected exactly one list of {n_layers} blocks, found {[n for n, _ in outer]}; "
            "this architecture isn't understood: it needs a rule in interp/anatomy.py"
        )
    name, blocks = outer[0]
    return model.get_submodule(name.rpartition(".")[0]), blocks


def _children(layers: tuple[nn.Module, ...], endings: tuple[str, ...]) -> tuple[nn.Module, ...]:
    """Of each block the one direct child whose class name ends so (Qwen2Attention, GPTNeoXMLP); nothing if a block
    has none."""
    parts = []
    for i, block in enumerate(layers):
        found = [(n, m) for n, m in block.named_children() if type(m).__name__.lower().endswith(endings)]
        if len(found) > 1:
            raise AnachronError(
                f"block {i} ({type(block).__name__}): expected one child of class *{endings[0]}, found "
                f"{[n for n, _ in found]}; this architecture isn't understood: it needs a rule in interp/anatomy.py"
            )
        parts += [m for _, m in found]
    return tuple(parts) if len(parts) == len(layers) else ()


def _final_norm(parent: nn.Module, blocks: nn.ModuleList) -> nn.Module:
    """The one norm that the owner of the blocks holds after them (a norm before them belongs to the embedding)."""
    children = list(parent.named_children())
    after = next(i for i, (_, m) in enumerate(children) if m is blocks)
    found = [(n, m) for n, m in children[after + 1 :] if "norm" in type(m).__name__.lower()]
    if len(found) != 1:
        raise AnachronError(
            f"{type(parent).__name__}: expected exactly one norm after the blocks, found {[n for n, _ in found]}; "
            "this architecture isn't understood: it needs a rule in interp/anatomy.py"
        )
    return found[0][1]
