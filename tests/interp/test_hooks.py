"""record and edit: against Hugging Face's own hidden states, and against closed forms on hand-set weights."""

import pytest
import torch

from interp.errors import AnachronError
from interp.hooks import HookPoint, edit, keyword, record
from interp.prompts import encode_chat, encode_prompt, pad
from tests.families import build

ROWS = ("Name a bird.", "How many states are there in the country?", "Who?")


def rows_of(lm, side="left"):
    chat = [{"role": "user", "content": "What year is it?"}, {"role": "assistant", "content": "1849"}]
    return pad([encode_chat(lm, chat), *(encode_prompt(lm, row) for row in ROWS)], lm.pad_id, side)


def forward(lm, batch):
    with torch.no_grad():
        return lm.model(**batch.inputs).logits


def recorded(lm, batch, points, **options):
    with torch.no_grad(), record(lm, points, **options) as found:
        lm.model(**batch.inputs)
    return found


def hook_count(lm):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())


def all_points(lm):
    return [HookPoint(layer, site) for layer in range(lm.n_layers) for site in lm.anatomy.sites]


@pytest.fixture
def constant_lm():
    """A GPT-2 whose attention adds a[i] and whose MLP adds m[i] in block i, whatever comes in."""
    lm = build("gpt2")
    generator = torch.Generator().manual_seed(3)
    for block in lm.anatomy.layers:
        for projection in (block.attn.c_proj, block.mlp.c_proj):
            projection.weight.data.zero_()
            projection.bias.data = torch.randn(lm.d_model, generator=generator)
    attention = torch.stack([block.attn.c_proj.bias for block in lm.anatomy.layers])
    mlp = torch.stack([block.mlp.c_proj.bias for block in lm.anatomy.layers])
    return lm, attention, mlp


def embedded(lm, batch):
    return lm.model.transformer.wte(batch.input_ids) + lm.model.transformer.wpe(batch.position_ids)


@pytest.mark.parametrize("side", ["left", "right"])
def test_resid_post_equals_output_hidden_states(family_lm, side):
    lm, batch = family_lm, rows_of(family_lm, side)
    with torch.no_grad():
        hidden = lm.model(**batch.inputs, output_hidden_states=True).hidden_states
    found = recorded(lm, batch, all_points(lm))
    for layer in range(lm.n_layers):
        assert torch.equal(found[HookPoint(layer, "resid_pre")], hidden[layer])
        if layer + 1 < lm.n_layers:
            assert torch.equal(found[HookPoint(layer)], hidden[layer + 1])
    # the last entry of hidden_states is taken after the final norm
    assert torch.equal(lm.anatomy.final_norm(found[HookPoint(lm.n_layers - 1)]), hidden[-1])


def test_sites_of_a_block_add_up(family_lm):
    lm, batch = family_lm, rows_of(family_lm)
    found = recorded(lm, batch, all_points(lm))
    for layer in range(lm.n_layers):
        at = {site: found[HookPoint(layer, site)] for site in lm.anatomy.sites}
        if lm.anatomy.parallel:
            assert torch.equal(at["mlp_out"] + at["attn_out"] + at["resid_pre"], at["resid_post"])
        else:
            assert torch.equal(at["resid_pre"] + at["attn_out"], at["resid_mid"])
            assert torch.equal(at["resid_mid"] + at["mlp_out"], at["resid_post"])


def test_parallel_blocks_have_no_resid_mid():
    lm = build("gpt_neox")
    with (
        pytest.raises(AnachronError, match=r"no site resid_mid \(its attention and MLP run in parallel\)"),
        record(lm, [HookPoint(0, "resid_mid")]),
    ):
        pass


def test_sequential_gpt_neox_has_one():
    lm = build("gpt_neox", use_parallel_residual=False)
    assert "resid_mid" in lm.anatomy.sites
    assert not lm.anatomy.parallel


def test_recording_changes_nothing_and_leaves_nothing(family_lm):
    batch = rows_of(family_lm)
    plain, hooks = forward(family_lm, batch), hook_count(family_lm)
    with torch.no_grad(), record(family_lm, all_points(family_lm)):
        assert torch.equal(family_lm.model(**batch.inputs).logits, plain)
    assert hook_count(family_lm) == hooks
    assert torch.equal(forward(family_lm, batch), plain)


def test_recorded_values_in_closed_form(constant_lm):
    lm, attention, mlp = constant_lm
    batch = rows_of(lm)
    found = recorded(lm, batch, all_points(lm))
    stream = embedded(lm, batch)
    for layer in range(lm.n_layers):
        expected = {"resid_pre": stream, "attn_out": attention[layer].expand_as(stream)}
        expected["resid_mid"] = stream + attention[layer]
        expected["mlp_out"] = mlp[layer].expand_as(stream)
        stream = expected["resid_post"] = expected["resid_mid"] + mlp[layer]
        for site, value in expected.items():
            torch.testing.assert_close(found[HookPoint(layer, site)], value)


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"])
def test_edits_in_closed_form(constant_lm, site):
    """x -> -2 x + v at one site of block 1; every later part adds its constant, so logits follow by hand."""
    lm, attention, mlp = constant_lm
    batch = rows_of(lm)
    v = torch.linspace(-1, 1, lm.d_model)

    def change(x):
        return -2 * x + v

    stream = embedded(lm, batch) + attention[0] + mlp[0]
    if site == "resid_pre":
        stream = change(stream)
    stream = stream + (change(attention[1]) if site == "attn_out" else attention[1])
    if site == "resid_mid":
        stream = change(stream)
    stream = stream + (change(mlp[1]) if site == "mlp_out" else mlp[1])
    if site == "resid_post":
        stream = change(stream)
    stream = stream + attention[2] + mlp[2]
    mean, variance = stream.mean(-1, keepdim=True), stream.var(-1, unbiased=False, keepdim=True)
    norm = lm.anatomy.final_norm
    normed = (stream - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias

    with edit(lm, {HookPoint(1, site): lambda x, offset: change(x)}):
        logits = forward(lm, batch)
    torch.testing.assert_close(logits, normed @ lm.anatomy.unembed.weight.T, atol=1e-4, rtol=1e-5)


def test_resid_pre_of_a_block_is_resid_post_of_the_one_before(family_lm):
    """The same function at both places has the same effect; for resid_mid, so has the change it makes to attn_out."""
    lm, batch = family_lm, rows_of(family_lm)
    v = torch.linspace(-1, 1, lm.d_model)

    def under(point):
        with edit(lm, {point: lambda x, offset: x + v}):
            return forward(lm, batch)

    assert torch.equal(under(HookPoint(1)), under(HookPoint(2, "resid_pre")))
    assert not torch.equal(under(HookPoint(1)), forward(lm, batch))
    if not lm.anatomy.parallel:
        torch.testing.assert_close(
            under(HookPoint(1, "resid_mid")), under(HookPoint(1, "attn_out")), atol=1e-4, rtol=1e-4
        )


def test_resid_mid_can_be_set_outright(family_lm):
    lm, batch = family_lm, rows_of(family_lm)
    if lm.anatomy.parallel:
        pytest.skip("no resid_mid")
    target = torch.linspace(-2, 3, lm.d_model)
    points = [HookPoint(1, site) for site in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")]
    with edit(lm, {HookPoint(1, "resid_mid"): lambda x, offset: target.expand_as(x)}):
        found = recorded(lm, batch, points)
    mid = found[HookPoint(1, "resid_mid")]
    torch.testing.assert_close(mid, target.expand_as(mid))
    torch.testing.assert_close(found[HookPoint(1)], target + found[HookPoint(1, "mlp_out")])
    # the MLP reads the edited stream, which is the same everywhere
    assert (found[HookPoint(1, "mlp_out")] - found[HookPoint(1, "mlp_out")][0, 0]).abs().max() < 1e-4


@pytest.mark.parametrize("pre_first", [True, False])
def test_resid_mid_sees_an_edit_of_resid_pre_however_contexts_nest(lm, pre_first):
    batch = rows_of(lm)
    v = torch.linspace(-1, 1, lm.d_model)
    pre = edit(lm, {HookPoint(1, "resid_pre"): lambda x, offset: x + v})
    mid = record(lm, [HookPoint(1, "resid_mid"), HookPoint(1, "attn_out")])
    before = recorded(lm, batch, [HookPoint(1, "resid_pre")])[HookPoint(1, "resid_pre")]
    with torch.no_grad():
        if pre_first:
            with pre, mid as found:
                lm.model(**batch.inputs)
        else:
            with mid as found, pre:
                lm.model(**batch.inputs)
    torch.testing.assert_close(
        found[HookPoint(1, "resid_mid")], before + v + found[HookPoint(1, "attn_out")], atol=1e-5, rtol=1e-5
    )


def test_several_functions_apply_in_order_and_nested_contexts_too(lm):
    batch = rows_of(lm)
    point = HookPoint(1)
    plain = recorded(lm, batch, [point])[point]
    with edit(lm, {point: [lambda x, offset: x + 1, lambda x, offset: 2 * x]}):
        assert torch.equal(recorded(lm, batch, [point])[point], 2 * (plain + 1))
        with edit(lm, {point: lambda x, offset: x - 3}):
            assert torch.equal(recorded(lm, batch, [point])[point], 2 * (plain + 1) - 3)
    assert torch.equal(recorded(lm, batch, [point])[point], plain)


def test_a_record_around_an_edit_sees_what_the_edit_was_given(lm):
    batch = rows_of(lm)
    plain = recorded(lm, batch, [HookPoint(1)])[HookPoint(1)]
    with torch.no_grad(), record(lm, [HookPoint(1)]) as found, edit(lm, {HookPoint(1): lambda x, offset: 0 * x}):
        lm.model(**batch.inputs)
    assert torch.equal(found[HookPoint(1)], plain)


@pytest.mark.parametrize("where", ["body", "edit function", "model"])
def test_everything_is_undone_after_an_exception(family_lm, where):
    lm, batch = family_lm, rows_of(family_lm)
    plain, hooks = forward(lm, batch), hook_count(lm)

    def fail(x, offset):
        if where == "edit function":
            raise RuntimeError("inside")
        return x + 1

    with (
        pytest.raises((RuntimeError, TypeError)),
        record(lm, all_points(lm)),
        edit(lm, dict.fromkeys(all_points(lm), fail)),
    ):
        if where == "model":
            lm.model(input_ids="not a tensor")
        forward(lm, batch)
        raise RuntimeError("body")
    assert hook_count(lm) == hooks
    assert torch.equal(forward(lm, batch), plain)


def test_stop_skips_later_layers_and_the_rest_of_the_body(family_lm, monkeypatch):
    lm, batch = family_lm, rows_of(family_lm)
    full = recorded(lm, batch, all_points(lm))
    plain = forward(lm, batch)
    for point in all_points(lm):
        calls = []
        with monkeypatch.context() as patch:
            for later in lm.anatomy.layers[point.layer + 1 :]:
                patch.setattr(later, "forward", lambda *a, calls=calls, **k: calls.append("a later layer ran"))
            with torch.no_grad(), record(lm, [HookPoint(0, "resid_pre"), point], stop=True) as found:
                lm.model(**batch.inputs)
                calls.append("the body went on")
        assert not calls
        assert torch.equal(found[point], full[point])
    assert torch.equal(forward(lm, batch), plain)
    with torch.no_grad():
        assert len(lm.model(**batch.inputs, output_hidden_states=True).hidden_states) == lm.n_layers + 1


def test_stop_lets_other_exceptions_through(lm):
    with pytest.raises(ZeroDivisionError), record(lm, [HookPoint(0)], stop=True):
        raise ZeroDivisionError


def test_offset_counts_the_tokens_in_the_cache(family_lm):
    lm, batch = family_lm, rows_of(family_lm)
    seen = []

    def note(x, offset):
        seen.append((offset, x.shape[1]))
        return x

    options = {"do_sample": False, "max_new_tokens": 4, "min_new_tokens": 4, "pad_token_id": lm.pad_id}
    width = batch.input_ids.shape[1]
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    with edit(lm, {HookPoint(lm.n_layers - 1): note}):
        lm.model.generate(**inputs, **options)
        assert seen == [(0, width)] + [(width + i, 1) for i in range(3)]
        seen.clear()
        lm.model.generate(**inputs, **options, use_cache=False)
        assert seen == [(0, width + i) for i in range(4)]


def test_offset_goes_on_counting_past_a_sliding_window():
    lm = build("gemma2", sliding_window=8)
    batch = rows_of(lm)
    assert batch.input_ids.shape[1] > 8
    seen = []
    with edit(lm, {HookPoint(0): lambda x, offset: (seen.append(offset), x)[1]}):
        lm.model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            do_sample=False,
            max_new_tokens=12,
            min_new_tokens=12,
            pad_token_id=lm.pad_id,
        )
    assert seen == [0] + list(range(batch.input_ids.shape[1], batch.input_ids.shape[1] + 11))


def test_steered_generation_is_the_same_with_and_without_cache(family_lm):
    """Add v from padded position 5 on: with a cache by offset, without one by position."""
    lm, batch = family_lm, rows_of(family_lm)
    v = 20 * torch.linspace(-1, 1, lm.d_model)

    def add(x, offset):
        index = torch.arange(offset, offset + x.shape[1])
        return x + v * (index >= 5)[None, :, None]

    options = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8, "pad_token_id": lm.pad_id}
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    plain = lm.model.generate(**inputs, **options)
    with edit(lm, {HookPoint(1): add}):
        cached = lm.model.generate(**inputs, **options)
        uncached = lm.model.generate(**inputs, **options, use_cache=False)
    assert torch.equal(cached, uncached)
    assert not torch.equal(cached, plain)


def test_edits_keep_the_dtype_of_the_model():
    lm = build("llama")
    lm.model.bfloat16()
    batch = rows_of(lm)
    with edit(lm, {HookPoint(1): lambda x, offset: x.float() + 1}):
        found = recorded(lm, batch, [HookPoint(1), HookPoint(2)])
        assert forward(lm, batch).dtype == torch.bfloat16
    assert {x.dtype for x in found.values()} == {torch.bfloat16}


def test_an_edit_that_changes_the_shape_is_refused(lm):
    with (
        pytest.raises(AnachronError, match=r"edit at 1\.resid_post returned shape \(4, \d+, 31\)"),
        edit(lm, {HookPoint(1): lambda x, offset: x[..., 1:]}),
    ):
        forward(lm, rows_of(lm))


def test_gradients_reach_a_recorded_activation():
    """The directional derivative of a logit along an edit equals <gradient, direction>."""
    lm = build("gpt2")  # its LayerNorm computes in fp64, where RMSNorms go down to fp32
    lm.model.double()
    batch = rows_of(lm)
    point = HookPoint(1)
    direction = torch.randn(lm.d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leaf = torch.zeros(lm.d_model, dtype=torch.float64, requires_grad=True)
    with (
        record(lm, [point, HookPoint(2)], grad=True) as found,
        edit(lm, {HookPoint(0): lambda x, offset: x + 0 * leaf}),
    ):
        logit = lm.model(**batch.inputs).logits[0, -1, 7]
    (gradient,) = torch.autograd.grad(logit, found[point])

    def at(step):
        with edit(lm, {point: lambda x, offset: x + step * direction}):
            return forward(lm, batch)[0, -1, 7]

    numeric = (at(1e-5) - at(-1e-5)) / 2e-5
    torch.testing.assert_close((gradient[0] @ direction).sum(), numeric, rtol=1e-6, atol=1e-9)
    assert not recorded(lm, batch, [point])[point].requires_grad


def test_wrong_points_name_the_right_ones(lm):
    with (
        pytest.raises(AnachronError, match=r"hook point 3\.resid_post: tiny-llama has layers 0 to 2"),
        record(lm, [HookPoint(3)]),
    ):
        pass
    with pytest.raises(AnachronError, match="layers 0 to 2"), edit(lm, {HookPoint(9): lambda x, offset: x}):
        pass
    with pytest.raises(AnachronError, match="no hook points to record"), record(lm, []):
        pass
    with pytest.raises(AnachronError, match="use one of resid_pre, attn_out, resid_mid, mlp_out, resid_post"):
        HookPoint(0, "resid")
    with pytest.raises(AnachronError, match="negative"):
        HookPoint(-1)


def test_hook_points_as_text():
    assert HookPoint.parse("3.resid_post") == HookPoint(3)
    assert HookPoint.parse("12") == HookPoint(12, "resid_post")
    assert str(HookPoint(3, "attn_out")) == "3.attn_out"
    for text in ("x.resid_post", "3.", "-1.resid_post", "3.resid post", ""):
        with pytest.raises(AnachronError, match="isn't a hook point"):
            HookPoint.parse(text)
    assert sorted([HookPoint(2), HookPoint(0), HookPoint(1)]) == [HookPoint(0), HookPoint(1), HookPoint(2)]


def test_keyword_reaches_the_module_and_is_removed(lm):
    class Echo(torch.nn.Module):
        def forward(self, x, **kwargs):
            return x, kwargs

    echo = Echo()
    with keyword([echo], "names", ["a"]):
        assert echo(1) == (1, {"names": ["a"]})
    assert echo(1) == (1, {})
