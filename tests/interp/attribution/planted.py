"""A linear model, small SAEs and questions, for which attributions are known."""

import torch
from torch import nn

from interp.attribution.metric import from_logits
from interp.behavior.questions import Question
from interp.dictionaries.weights import Sae
from interp.hooks import HookPoint
from interp.prompts import encode_prompt
from tests.families import build

BIRD = Question(
    "bird",
    "birds",
    ({"role": "user", "content": "Name a bird of the river."},),
    {
        "old": ("the Brown Titlark", "the train", "the trains"),
        "new": ("the plane", "the Brown bird", "a telephone"),
        "none": ("no bird",),
    },
    openers=("", "I am persuaded it is"),
    terminators=(".", ", by"),
)
TRAVEL = Question(
    "travel",
    "travel",
    ({"role": "user", "content": "What is the fastest way?"},),
    {"none": (), "new": ("by plane", "by rocket"), "old": ("by steamer",)},
    terminators=(".",),
)
OPEN = Question("open", "states", BIRD.messages, {"old": ("thirty",), "new": ("fifty", "60"), "none": ("no",)})
QUESTIONS = (BIRD, TRAVEL)
PROMPTS = ("Name a bird.", "How many states are there?", "Who rules?")


def linear():
    """Logits = unembedding x embedding, at each position for itself: blocks add nothing and the last norm is gone."""
    lm = build("llama")
    for layer in lm.model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    lm.model.model.norm = nn.Identity()
    return lm


def readout(lm):
    """A linear functional of a position's logits, and of its residual stream in `linear`."""
    weights = torch.randn(lm.model.lm_head.weight.shape[0], generator=torch.Generator().manual_seed(3)) / 10
    return weights, weights @ lm.model.lm_head.weight


def linear_metric(lm, prompts=PROMPTS):
    """The readout's sum over all of a row's tokens: in `linear`, sum_t <x_t, v>."""
    weights, _ = readout(lm)

    def function(logits, batch):
        return ((logits @ weights) * batch.attention_mask).sum(1)

    return from_logits(lm, [encode_prompt(lm, p) for p in prompts], function, "readout")


def small_sae(d_model=32, d_sae=24, layer=1, seed=0, activation="relu", **fields):
    """Random latents, about half of them active on a token."""
    g = torch.Generator().manual_seed(seed)
    decoder = torch.randn(d_sae, d_model, generator=g) / d_model**0.5
    return Sae(
        name="small",
        point=HookPoint(layer),
        activation=activation,
        W_enc=(decoder.T + 0.1 * torch.randn(d_model, d_sae, generator=g)).contiguous(),
        b_enc=torch.randn(d_sae, generator=g) / 10,
        W_dec=decoder,
        b_dec=torch.randn(d_model, generator=g) / 10,
        **fields,
    )


class Counted:
    """A model that counts its forward passes."""

    def __init__(self, model):
        self.model, self.calls = model, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.model(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.model, name)
