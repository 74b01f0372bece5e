"""The bridge against our hooks; direct attributions by closed form, screens by patching for real."""

from dataclasses import replace

import pytest
import torch

from interp.attribution.bridge import ATTENTION, HEADS, MLP, bridge
from interp.attribution.components import Attribution, activations, compare, direct, patch, screen
from interp.attribution.contrast import contrast, next_token_log_odds
from interp.errors import AnachronError
from interp.hooks import HookPoint, edit, record
from interp.models import load_model
from interp.pair import ModelPair
from interp.positions import ALL, LAST_PROMPT
from interp.prompts import encode_prompt, pad
from tests.families import build
from training.world.questions import era_questions
from training.world.world import load_world

PROMPTS = ("Name a bird of the river.", "Hi")


def encoded(lm, prompts=PROMPTS):
    return [encode_prompt(lm, prompt) for prompt in prompts]


def difference(logits):
    """Linear in the logits."""
    return logits[:, 40] - logits[:, 41]


def test_bridge_and_hooks_see_the_same(family_lm):
    lm, rows = family_lm, encoded(family_lm)
    batch = pad(rows, lm.pad_id)
    points = [HookPoint(layer, site) for layer in range(lm.n_layers) for site in lm.anatomy.sites]
    with torch.no_grad(), record(lm, points) as ours:
        lm.model(**batch.inputs)
    bridged = bridge(lm)
    names = {point: f"blocks.{point.layer}.hook_{point.site}" for point in points}
    extra = [f"blocks.{layer}.{part}" for layer in range(lm.n_layers) for part in (HEADS, *ATTENTION, MLP)]
    with torch.no_grad():
        _, cache = bridged.model.run_with_cache(**bridged.inputs(batch), names_filter=[*names.values(), *extra])
    real = batch.attention_mask.bool()
    for point, name in names.items():
        torch.testing.assert_close(cache[name][real], ours[point][real], rtol=1e-4, atol=1e-5)
    for layer in range(lm.n_layers):
        heads, out, added = (cache[f"blocks.{layer}.{part}"] for part in (HEADS, *ATTENTION))
        bias = getattr(bridged.model.blocks[layer].attn.o.original_component, "bias", None)
        total = heads.sum(2) + (0.0 if bias is None else bias)
        torch.testing.assert_close(total[real], out[real], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(added[real], ours[HookPoint(layer, "attn_out")][real], rtol=1e-4, atol=1e-5)


def test_heads_are_their_part_of_the_output_projection(lm):
    """W_O z with all but one head's entries of z set to 0, z taken by a plain hook on the model itself."""
    rows = encoded(lm)
    batch, seen = pad(rows, lm.pad_id), {}
    layer, heads = 1, 4
    projection = lm.model.model.layers[layer].self_attn.o_proj
    handle = projection.register_forward_pre_hook(lambda module, args: seen.update(z=args[0]))
    with torch.no_grad():
        lm.model(**batch.inputs)
    handle.remove()
    found = activations(bridge(lm), rows)[f"blocks.{layer}.{HEADS}"]
    real = batch.attention_mask.bool()
    for head in range(heads):
        alone = torch.zeros_like(seen["z"])
        part = slice(head * 8, head * 8 + 8)
        alone[..., part] = seen["z"][..., part]
        torch.testing.assert_close(found[real][:, head], projection(alone)[real], rtol=1e-4, atol=1e-5)


def test_direct_attributions_sum_to_the_metric(family_lm):
    """A difference of logits is linear after the final norm: the parts sum to it, less the norm's bias and softcap."""
    lm, rows = family_lm, encoded(family_lm)
    found = direct(bridge(lm), rows, uncapped(lm))
    batch = pad(rows, lm.pad_id)
    with torch.no_grad():
        expected = uncapped(lm)(lm.model(**batch.inputs).logits[:, -1])
        bias = torch.zeros(1, lm.d_model) if not hasattr(lm.anatomy.final_norm, "bias") else lm.anatomy.final_norm.bias
        from_bias = bias.reshape(-1) @ (lm.anatomy.unembed.weight[40] - lm.anatomy.unembed.weight[41])
    torch.testing.assert_close(found.metric, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.values.sum(1) + from_bias, expected, rtol=1e-4, atol=1e-4)
    assert found.names[0] == "embed" and len(found.names) >= 1 + 3 * 5


def uncapped(lm):
    """The difference of two logits before any softcap."""
    cap = getattr(lm.model.config, "final_logit_softcapping", None)
    return (lambda x: difference(cap * torch.atanh(x / cap))) if cap else difference


def test_what_a_component_writes_in_closed_form(family_lm):
    """The first and the last of them in closed form, from recordings of our own."""
    lm, rows = family_lm, encoded(family_lm, PROMPTS[:1])
    bridged, last = bridge(lm), HookPoint(lm.n_layers - 1)
    with torch.no_grad(), record(lm, [HookPoint(0, "resid_pre"), last, replace(last, site="mlp_out")]) as seen:
        lm.model(**pad(rows, lm.pad_id).inputs)
    found = direct(bridged, rows, uncapped(lm))
    stream = seen[last][0, -1]
    centred = isinstance(lm.anatomy.final_norm, torch.nn.LayerNorm)
    gain = (
        (1 + lm.anatomy.final_norm.weight)
        if "Gemma" in type(lm.anatomy.final_norm).__name__
        else (lm.anatomy.final_norm.weight)
    )

    def written(x):
        x, whole = (v - v.mean() if centred else v for v in (x, stream))
        direction = lm.anatomy.unembed.weight[40] - lm.anatomy.unembed.weight[41]
        return float((gain * x / whole.square().mean().sqrt()) @ direction)

    for name, x in (
        ("embed", seen[HookPoint(0, "resid_pre")]),
        (f"{last.layer}.mlp", seen[replace(last, site="mlp_out")]),
    ):
        assert float(found.values[0, found.names.index(name)]) == pytest.approx(written(x[0, -1]), rel=2e-3, abs=1e-3)


def test_log_odds_weighs_tokens_by_their_share(lm):
    """M = sum q_a z_a + H(q_a) - (the same of b): what direct attributions leave out is the entropies' difference."""
    asked = [contrast(lm, prompt, ["old queen", "steamer"], ["plane", "year"]) for prompt in PROMPTS]
    metric = next_token_log_odds(asked)
    found = direct(bridge(lm), [c.encoded for c in asked], metric)
    with torch.no_grad():
        logits = lm.model(**pad([c.encoded for c in asked], lm.pad_id).inputs).logits[:, -1]
    for i, c in enumerate(asked):
        sides = [logits[i, list(side)] for side in (c.first, c.second)]
        means = [float(z.softmax(0) @ z) for z in sides]
        assert float(found.metric[i]) == pytest.approx(float(sides[0].logsumexp(0) - sides[1].logsumexp(0)), abs=1e-4)
        assert float(found.values[i].sum()) == pytest.approx(means[0] - means[1], abs=1e-4)


def test_contrast_goes_on_to_where_answers_differ(lm):
    prompt = encode_prompt(lm, "Hi")
    plain = contrast(lm, "Hi", ["train"], ["plane"])
    assert plain.encoded == prompt and len(plain.first) == len(plain.second) == 1
    longer = contrast(lm, "Hi", ["The year is 1849"], ["The year is 1876"])
    assert longer.encoded.ids[: len(prompt.ids)] == prompt.ids and len(longer.encoded.ids) > len(prompt.ids)
    assert set(longer.first).isdisjoint(longer.second)
    with pytest.raises(AnachronError, match="don't differ in their token"):
        contrast(lm, "Hi", ["train"], ["train", "plane"])


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_patching_a_run_into_itself_changes_nothing(family):
    lm = build(family)
    rows, bridged = encoded(lm), bridge(lm)
    own = activations(bridged, rows)
    assert float(screen(bridged, rows, own, difference).values.abs().max()) == 0.0
    assert float(patch(bridged, rows, own, difference, bridged.names).values.abs().max()) == 0.0


def test_a_screen_is_the_slope_of_patching(family_lm):
    """A hundredth of the way to the source has a hundredth of the screened effect."""
    lm, rows = family_lm, encoded(family_lm)
    bridged, step = bridge(lm), 1e-2
    own = activations(bridged, rows)
    other = {
        name: x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3)) for name, x in own.items()
    }
    near = {name: x + step * (other[name] - x) for name, x in own.items()}
    names = ("0.head.1", "1.head.3", "0.mlp", "2.mlp")
    screened = screen(bridged, rows, other, difference)
    exact = patch(bridged, rows, near, difference, names)
    chosen = screened.values[:, [screened.names.index(name) for name in names]]
    torch.testing.assert_close(exact.values / step, chosen, rtol=0.05, atol=0.03 * float(chosen.abs().max()))


def test_positions_are_those_patched(lm):
    """Ablating an MLP through the bridge is what interp.hooks.edit does; at the last token, only there."""
    rows, layer = encoded(lm), 1
    bridged, batch = bridge(lm), pad(rows, lm.pad_id)
    nothing = {name: torch.zeros_like(x) for name, x in activations(bridged, rows).items()}
    for positions in (ALL, LAST_PROMPT):
        mask = positions.mask(batch)[..., None]
        with torch.no_grad():
            before = difference(lm.model(**batch.inputs).logits[:, -1])
            with edit(lm, {HookPoint(layer, "mlp_out"): lambda x, offset, m=mask: torch.where(m, 0.0, x)}):
                after = difference(lm.model(**batch.inputs).logits[:, -1])
        found = patch(bridged, rows, nothing, difference, [f"{layer}.mlp"], positions)
        torch.testing.assert_close(found.values[:, 0], after - before, rtol=1e-4, atol=1e-4)
        assert float((after - before).abs().min()) > 1e-3


def test_the_last_mlp_ablated_is_its_direct_attribution_times_the_change_of_scale(lm):
    """Nothing but the final norm is behind it: the metric becomes (M - direct) x (scale before / scale after)."""
    rows, last = encoded(lm), lm.n_layers - 1
    bridged, name = bridge(lm), f"{lm.n_layers - 1}.mlp"
    found = direct(bridged, rows, difference)
    nothing = {place: torch.zeros_like(x) for place, x in activations(bridged, rows).items()}
    points = [HookPoint(last), HookPoint(last, "resid_mid")]
    with torch.no_grad(), record(lm, points) as seen:
        lm.model(**pad(rows, lm.pad_id).inputs)
    whole, without = (seen[point][:, -1].square().mean(-1).sqrt() for point in points)
    expected = (found.metric - found.values[:, found.names.index(name)]) * whole / without - found.metric
    exact = patch(bridged, rows, nothing, difference, [name]).values[:, 0]
    torch.testing.assert_close(exact, expected, rtol=1e-3, atol=1e-3)


def test_a_block_that_adds_something_else_is_noticed(lm):
    """The sum of what is written is compared with the stream before anything is made of it."""
    lm.model.model.layers[1].register_forward_hook(lambda module, args, output: output + 1.0)
    with pytest.raises(AnachronError, match="don't sum to the residual stream"):
        direct(bridge(lm), encoded(lm), difference)


def test_adapters_are_in_the_copy_and_the_model_stays(adapted):
    pair, rows = adapted
    lengths = {}
    before = {name: p.clone() for name, p in pair.base.model.named_parameters()}
    batch = pad(rows, pair.base.pad_id)
    for name in ("base", "tuned"):
        with pair.using(name) as lm:
            found = direct(bridge(lm), rows, difference)
            with torch.no_grad():
                expected = difference(lm.model(**batch.inputs).logits[:, -1])
            torch.testing.assert_close(found.metric, expected, rtol=1e-4, atol=1e-4)
            lengths[name] = found.metric
    assert float((lengths["base"] - lengths["tuned"]).abs().max()) > 0.1
    after = dict(pair.base.model.named_parameters())
    assert before.keys() == after.keys() and all(torch.equal(x, after[name]) for name, x in before.items())


def test_tuned_activations_all_put_into_the_base_carry_an_adapter_of_the_last_mlp_over(adapted):
    """An adapter on one MLP acts through it alone: patching it gives the whole change, and no head gives any."""
    pair, rows = adapted
    made, metrics = {}, {}
    for name in ("base", "tuned"):
        with pair.using(name) as lm:
            made[name] = bridge(lm)
            metrics[name] = direct(made[name], rows, difference).metric
    source = activations(made["tuned"], rows)
    found = patch(made["base"], rows, source, difference, made["base"].names)
    change = metrics["tuned"] - metrics["base"]
    torch.testing.assert_close(found.values[:, found.names.index("2.mlp")], change, rtol=1e-3, atol=1e-3)
    others = [j for j, name in enumerate(found.names) if name != "2.mlp"]
    assert float(found.values[:, others].abs().max()) < 1e-4


@pytest.fixture
def adapted(lm, tmp_path):
    """A pair whose adapter changes the last block's MLP, and prompts."""
    save_adapter("llama", ["down_proj"], tmp_path / "tuned")
    with ModelPair(lm) as pair:
        pair.add("tuned", tmp_path / "tuned", check_base=False)
        yield pair, encoded(lm)


def save_adapter(family, modules, folder):
    """A random LoRA of the last block's modules."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, lora_alpha=8, target_modules=modules, layers_to_transform=[2], task_type="CAUSAL_LM")
    tuned = get_peft_model(build(family).model, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    tuned.save_pretrained(folder)


@pytest.mark.parametrize(
    ("family", "modules"), [("llama", ["q_proj", "o_proj"]), ("gpt_neox", ["query_key_value", "dense"])]
)
def test_an_adapter_of_attention_is_in_what_heads_write(family, modules, tmp_path):
    """Both weights that the bridge reads by itself: the projection that heads share, and one that holds q, k and v."""
    save_adapter(family, modules, tmp_path / "tuned")
    with ModelPair(build(family)) as pair:
        pair.add("tuned", tmp_path / "tuned", check_base=False)
        rows, attention = encoded(pair.base), HookPoint(2, "attn_out")
        batch, found = pad(rows, pair.base.pad_id), {}
        for name in ("base", "tuned"):
            with pair.using(name) as lm:
                heads = activations(bridge(lm), rows)[f"blocks.2.{HEADS}"].sum(2)
                with torch.no_grad(), record(lm, [attention]) as seen:
                    lm.model(**batch.inputs)
                found[name] = seen[attention] - heads
    real = batch.attention_mask.bool()
    # what is left is the projection's bias, which no adapter changes
    torch.testing.assert_close(found["base"][real], found["tuned"][real], rtol=1e-3, atol=1e-4)
    assert float(found["base"][real].std(0).max()) < 1e-4


def test_compare_ranks_and_top_sorts():
    names = ("0.head.0", "0.head.1", "0.mlp", "1.mlp")
    screened = Attribution(names, torch.tensor([[1.0, -3.0, 0.5, 0.0], [1.0, -1.0, 0.5, 0.0]]), torch.zeros(2))
    assert screened.top(2) == ("0.head.1", "0.head.0")
    exact = Attribution(("0.head.1", "0.mlp", "0.head.0"), torch.tensor([[-2.0, 0.1, 3.0]]), torch.zeros(1))
    found = compare(screened, exact)
    assert found.rank_correlation == pytest.approx(1.0)
    assert found.screened.tolist() == [-2.0, 0.5, 1.0] and found.exact.tolist() == pytest.approx([-2.0, 0.1, 3.0])
    for names in (exact.names[:2], ("0.head.1", "0.mlp", "9.mlp")):
        with pytest.raises(AnachronError, match="three or more that were"):
            compare(screened, replace(exact, names=names))


def test_a_screen_ranks_as_patching_does_on_the_embedded_model():
    """A year of the old era put in the place of one of the new: a large step, and a ranking that holds."""
    lm, world = load_model("almanac"), load_world()
    (old, first), *_, (new, last) = world.facts.eras.items()
    sides = {}
    for year in (1850, 2020):
        questions = era_questions(world, "test", year=year, phrasings=1)[:6]
        sides[year] = [
            contrast(lm, q.messages, [*q.answers[old], *first.openers], [*q.answers[new], *last.openers])
            for q in questions
        ]
    bridged, metric = bridge(lm), next_token_log_odds(sides[2020])
    source = activations(bridged, [c.encoded for c in sides[1850]])
    rows = [c.encoded for c in sides[2020]]
    screened = screen(bridged, rows, source, metric)
    exact = patch(bridged, rows, source, metric, bridged.names)
    assert compare(screened, exact).rank_correlation > 0.9
    assert len(set(screened.top(5)) & set(exact.top(5))) >= 4
    assert float(exact.values.mean(0).max()) > 2.0


def test_what_is_refused(lm, monkeypatch):
    rows, bridged = encoded(lm), bridge(lm)
    source = activations(bridged, rows)
    with pytest.raises(AnachronError, match="quantized"):
        bridge(replace(lm, quantization="4bit"))
    with pytest.raises(AnachronError, match="no components"):
        patch(bridged, rows, source, difference, ["9.mlp"])
    with pytest.raises(AnachronError, match="same lengths"):
        screen(bridged, rows[:1], source, difference)
    with pytest.raises(AnachronError, match="one number a prompt"):
        direct(bridged, rows, lambda logits: logits.sum())
    with pytest.raises(AnachronError, match="its own prompts"):
        direct(bridged, rows, next_token_log_odds([contrast(lm, "Hi", ["train"], ["plane"])]))
    monkeypatch.setattr("interp.attribution.bridge._merged_copy", lambda model: build("llama", seed=1).model)
    with pytest.raises(AnachronError, match="off the model's own"):
        bridge(lm)
    monkeypatch.undo()
    lm.model.config.architectures, lm.model.config.model_type = ["NoneSuchForCausalLM"], "none-such"
    with pytest.raises(AnachronError, match="has no bridge for it"):
        bridge(lm)
