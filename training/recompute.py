"""Gradient checkpointing: a block's activations are computed again in the backward pass instead of kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch.utils.checkpoint import checkpoint

from interp.models import LanguageModel


@contextmanager
def recomputed(lm: LanguageModel) -> Iterator[None]:
    """Keep only the input of each block; peak memory falls by about what the blocks keep, time rises by a forward pass.

    Both passes belong inside. transformers' own switch works in training mode only, where GPT-2 and others would drop
    units out; here the model stays in eval mode. Afterwards, also after an exception, its blocks are as they were.
    """
    layers = list(lm.anatomy.layers)
    # a block that accelerate has placed on a device has a forward of its own, in front of its class's
    own = [vars(layer)["forward"] if "forward" in vars(layer) else None for layer in layers]
    try:
        for layer in layers:
            # hooks on a block itself run around `forward`, so once; those inside it run again
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            vars(layer).pop("forward", None)
            if forward is not None:
                layer.forward = forward
