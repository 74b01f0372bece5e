"""Parts found by structure, against the paths they have in each family."""

import pytest
import torch
from torch import nn

from interp.anatomy import find_anatomy
from interp.errors import AnachronError
from interp.hooks import HookPoint, record
from interp.models import wrap
from tests.families import build, tokenizer

PATHS = {
    "llama": ("model.layers", "self_attn", "mlp", "self_attn", "mlp", "model.norm", "lm_head"),
    "gemma2": (
        *("model.layers", "self_attn", "mlp", "post_attention_layernorm", "post_feedforward_layernorm"),
        *("model.norm", "lm_head"),
    ),
    "gpt2": ("transformer.h", "attn", "mlp", "attn", "mlp", "transformer.ln_f", "lm_head"),
    "gpt_neox": (
        *("gpt_neox.layers", "attention", "mlp", "post_attention_dropout", "post_mlp_dropout"),
        *("gpt_neox.final_layer_norm", "lm_head"),
    ),
}
PATHS.update(dict.fromkeys(("qwen2", "qwen3", "mistral"), PATHS["llama"]), gemma3=PATHS["gemma2"])


@pytest.mark.parametrize("family", sorted(PATHS))
@pytest.mark.parametrize("adapted", [False, True])
def test_parts_of_eight_families_plain_and_under_peft(family, adapted):
    blocks, attention, mlp, attention_out, mlp_out, norm, unembed = PATHS[family]
    lm = build(family)
    model = lm.model
    if adapted:
        from peft import LoraConfig, get_peft_model

        options = {"fan_in_fan_out": True} if family == "gpt2" else {}
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **options))
    anatomy = wrap(model, tokenizer(), family).anatomy
    get = lm.model.get_submodule
    assert (anatomy.n_layers, anatomy.d_model, len(anatomy.layers)) == (3, 32, 3)
    assert anatomy.final_norm is get(norm)
    assert anatomy.unembed is get(unembed)
    for i in range(3):
        assert anatomy.layers[i] is get(f"{blocks}.{i}")
        assert anatomy.attentions[i] is get(f"{blocks}.{i}.{attention}")
        assert anatomy.mlps[i] is get(f"{blocks}.{i}.{mlp}")
        assert anatomy.attention_outs[i] is get(f"{blocks}.{i}.{attention_out}")
        assert anatomy.mlp_outs[i] is get(f"{blocks}.{i}.{mlp_out}")
    assert anatomy.parallel == (family == "gpt_neox")
    assert ("resid_mid" in anatomy.sites) == (family != "gpt_neox")


def other(name, **fields):
    """A tiny model of a further family."""
    import transformers

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"vocab_size": 396, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**{**shape, **ids, **fields}))
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
    return wrap(model, tokenizer(), name)


@pytest.mark.parametrize(
    ("name", "fields", "sites", "parallel"),
    [
        # experts in place of an MLP
        ("MixtralConfig", {"num_local_experts": 3, "num_key_value_heads": 2}, 5, False),
        # norms after attention and MLP only
        ("Olmo2Config", {}, 5, False),
        ("PhiConfig", {}, 4, True),
        # what attention returns is scaled before it is added, so it isn't attn_out
        ("GraniteConfig", {"residual_multiplier": 0.5}, 2, False),
        # attention and MLP add the residual themselves
        ("BloomConfig", {"n_layer": 2, "n_head": 4}, 2, False),
    ],
)
def test_sites_of_further_families(name, fields, sites, parallel):
    lm = other(name, **fields)
    assert (len(lm.anatomy.sites), lm.anatomy.parallel) == (sites, parallel)
    assert {"resid_pre", "resid_post"} <= set(lm.anatomy.sites)
    if sites == 2:
        with (
            pytest.raises(AnachronError, match=r"no site attn_out .*; use one of resid_pre, resid_post"),
            record(lm, [HookPoint(0, "attn_out")]),
        ):
            pass


class Fake(nn.Module):
    """Just enough of a causal LM to be looked through."""

    def __init__(self, **parts):
        super().__init__()
        self.config = build("llama").model.config
        self.backbone = nn.Module()
        for name, part in parts.items():
            self.backbone.add_module(name, part)

    def get_output_embeddings(self):
        return nn.Linear(2, 2)


def blocks():
    return nn.ModuleList([nn.Identity() for _ in range(3)])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, r"exactly one list of 3 blocks, found \[\]"),
        ({"a": blocks(), "b": blocks()}, r"exactly one list of 3 blocks, found \['backbone.a', 'backbone.b'\]"),
        ({"h": blocks()}, r"exactly one norm after the blocks, found \[\]"),
        ({"norm": nn.LayerNorm(2), "h": blocks()}, r"exactly one norm after the blocks, found \[\]"),
        ({"h": blocks(), "x": nn.LayerNorm(2), "y": nn.LayerNorm(2)}, r"found \['x', 'y'\]"),
    ],
)
def test_anything_but_one_match_is_refused(parts, message):
    with pytest.raises(AnachronError, match=message):
        find_anatomy(Fake(**parts))


def test_lists_inside_the_blocks_do_not_compete():
    """Three experts in each of three blocks."""
    inner = nn.ModuleList([nn.ModuleList([nn.Identity() for _ in range(3)]) for _ in range(3)])
    anatomy = find_anatomy(Fake(embed_norm=nn.LayerNorm(2), h=inner, last=nn.LayerNorm(2)))
    assert anatomy.layers == tuple(inner)
    assert anatomy.sites == ("resid_pre", "resid_post")


def test_a_config_that_lies_about_its_width_is_refused():
    lm = build("gpt2")
    lm.model.config.n_embd = 48
    with pytest.raises(AnachronError, match="hidden_size is 48 but blocks pass on 32"):
        wrap(lm.model, tokenizer(), "liar")
