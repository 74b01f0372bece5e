"""Layers on several devices, with the CPU and the meta device (shapes without numbers) for two devices.

Every operation inside is checked to find its tensors on one device, as CUDA would demand.
"""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from interp.behavior.perplexity import nats_per_token
from interp.behavior.questions import Question
from interp.behavior.sampling import generate
from interp.behavior.scoring import score
from interp.capture import capture
from interp.directions import random_direction
from interp.hooks import HookPoint, edit, record
from interp.positions import ALL, LAST_PROMPT
from interp.prompts import Encoded, as_messages, encode_prompt, pad
from interp.steering import Ablate, AblateSequentially, Add, Clamp, steer
from tests.families import build

CPU = torch.device("cpu")
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class OneDevice(TorchDispatchMode):
    """Refuses an operation on tensors of two devices; single numbers may come from the CPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.dim()]
        if func not in MOVES and len({x.device.type for x in tensors}) > 1:
            raise RuntimeError(f"{func} on tensors of {[x.device.type for x in tensors]}")
        if func is torch.ops.aten._to_copy.default and args[0].is_meta and kwargs.get("device") == CPU:
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype", args[0].dtype))
        return func(*args, **(kwargs or {}))


def spread(family):
    """A tiny model whose blocks from 1 on, final norm and unembedding are on the second device."""
    from accelerate import dispatch_model

    lm = build(family)
    second = {lm.anatomy.final_norm, lm.anatomy.unembed, *lm.anatomy.layers[1:]}
    parents = [lm.model, getattr(lm.model, lm.model.base_model_prefix)]
    devices = {}
    for name, module in lm.model.named_modules():
        if module in second or module is lm.anatomy.layers[0]:
            devices[name] = "meta" if module in second else "cpu"
        elif any(module in parent.children() for parent in parents) and lm.anatomy.layers[0] not in module.modules():
            devices[name] = "cpu"
    dispatch_model(lm.model, devices, main_device="cpu")
    return lm


@pytest.fixture(params=["llama", "qwen3", "gpt_neox"])
def spread_lm(request):
    return spread(request.param)


def test_the_guard_sees_a_tensor_left_behind(spread_lm):
    u = torch.ones(spread_lm.d_model)
    batch = pad([encode_prompt(spread_lm, "Name a bird.")], 0)
    left_behind = edit(spread_lm, {HookPoint(1): lambda x, offset: x + u})
    with pytest.raises(RuntimeError, match="on tensors of"), OneDevice(), torch.no_grad(), left_behind:
        spread_lm.model(**batch.inputs, use_cache=False)


def test_recorded_activations_are_on_their_layers_device(spread_lm):
    lm = spread_lm
    assert lm.device == CPU
    batch = pad([encode_prompt(lm, "Name a bird."), encode_prompt(lm, "Who rules?")], 0)
    points = [HookPoint(i, site) for i in range(lm.n_layers) for site in lm.anatomy.sites]
    with OneDevice(), torch.no_grad(), record(lm, points) as found:
        lm.model(**batch.inputs, use_cache=False)
    for point, x in found.items():
        # the first block over there gets its input from here
        here = point.layer == 0 or (point.layer, point.site) == (1, "resid_pre")
        assert x.device.type == ("cpu" if here else "meta"), point
        assert x.shape == (*batch.input_ids.shape, lm.d_model)


def test_edits_follow_the_activations(spread_lm):
    lm = spread_lm
    batch = pad([encode_prompt(lm, "Name a bird."), encode_prompt(lm, "Who rules?")], 0)
    u, v = (random_direction(lm.d_model, HookPoint(1), seed=seed) for seed in (0, 1))
    for i in range(lm.n_layers):
        for site in lm.anatomy.sites:
            points = [HookPoint(i, site)]
            edits = [
                Add(u, 2.0, points=points),
                Add(u, torch.tensor([1.0, 2.0]), positions=LAST_PROMPT, points=points),
                Ablate([u, v], points=points),
                AblateSequentially([u, v], positions=ALL, points=points),
                Clamp(v, 1.0, points=points),
            ]
            with OneDevice(), torch.no_grad(), steer(lm, edits, batch):
                lm.model(**batch.inputs, use_cache=False)


def test_measurements_bring_their_results_back(spread_lm):
    """The second device's numbers come back as zeros, so answers are a matter of form only."""
    lm = spread_lm
    rows = [encode_prompt(lm, "Name a bird."), encode_prompt(lm, "Who rules?")]
    chats = [Encoded(row.ids, row.prompt_len - 2) for row in rows]
    question = Question(
        "q", "bird", as_messages("Name a bird."), {"old": ("titlark", "brown titlark"), "new": ("rail",)}
    )
    edits = [Add(random_direction(lm.d_model, HookPoint(1), seed=0), 1.0)]
    with OneDevice():
        captured = capture(lm, rows, [HookPoint(0), HookPoint(1), HookPoint(2)], LAST_PROMPT)
        assert all(x.device.type == "cpu" and x.shape == (2, lm.d_model) for x in captured.values())
        assert len(generate(lm, rows, max_new_tokens=3, edits=edits)) == 2
        assert nats_per_token(lm, chats, edits=edits) == pytest.approx(math.log(len(lm.tokenizer)))
        assert score(lm, [question], edits=edits).probability.shape == (1, 2)
