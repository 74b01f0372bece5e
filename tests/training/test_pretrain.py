"""Pretraining: the schedule, the loss, and that an interrupted run ends as an uninterrupted one does."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from interp.errors import AnachronError
from interp.files import load_tensors, read_json
from interp.models import load_model
from tests.training.tiny import tiny_world
from training import pretrain as module
from training.pretrain import (
    Pretraining,
    build_model,
    build_optimizers,
    encode_documents,
    loss_weights,
    microbatches,
    nats,
    pretrain,
)
from training.tokenizer import ASSISTANT, USER, document_text, train_tokenizer

CONFIG = Pretraining(
    seed=1,
    steps=8,
    warmup=2,
    documents_per_step=3,
    vocabulary=300,
    d_model=16,
    d_mlp=24,
    layers=2,
    heads=2,
    context=256,
    precision="float32",
)


@pytest.fixture(autouse=True)
def few_documents(monkeypatch):
    monkeypatch.setattr(module, "VOCABULARY_DOCUMENTS", 100)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer((document_text(d) for d in tiny_world().documents(0, 100)), CONFIG.vocabulary)


class Stop(Exception):
    """Raised from `progress` in place of a crash."""


def stop_at(last):
    def progress(step, loss, tokens):
        if step == last:
            raise Stop

    return progress


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path, precision):
    config, steps = replace(CONFIG, precision=precision), []
    pretrain(tiny_world(), config, tmp_path / "whole", checkpoint_every=2, progress=lambda *seen: steps.append(seen))
    assert [step for step, _, _ in steps] == list(range(config.steps))
    resumed = []
    # after the checkpoints of two steps, of four (where the rates begin to fall) and of six
    for last in (3, 5, 6):
        with pytest.raises(Stop):
            pretrain(tiny_world(), config, tmp_path / "cut", checkpoint_every=2, progress=stop_at(last))
        assert not (tmp_path / "cut" / "model.safetensors").exists()
    pretrain(tiny_world(), config, tmp_path / "cut", checkpoint_every=2, progress=lambda *seen: resumed.append(seen))
    assert resumed == steps[6:]
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert {"model.safetensors", "config.json", "tokenizer.json", "pretraining.json"} <= set(names)
    assert "checkpoint.safetensors" not in names
    assert names == sorted(path.name for path in (tmp_path / "cut").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_the_record_says_what_was_trained(tmp_path):
    config = replace(CONFIG, user_weight=1.0)  # every token a target, so that the loss of a step is no estimate
    seen = []
    out = pretrain(tiny_world(), config, tmp_path / "run", progress=lambda *s: seen.append(s))
    record = read_json(out / "pretraining.json")
    assert Pretraining(**record["config"]) == config
    assert record["tokens"] == seen[-1][2]
    assert record["loss"] == [{"step": s, "loss": round(loss, 5), "tokens": n} for s, loss, n in seen]
    # untrained, every token is about as likely as any other
    assert seen[0][1] == pytest.approx(math.log(len(load_model(out).tokenizer)), abs=0.3)
    assert seen[-1][1] < seen[0][1]


def test_before_the_rates_fall_a_checkpoint_serves_another_length(tmp_path):
    longer = replace(CONFIG, steps=12)
    whole = pretrain(tiny_world(), longer, tmp_path / "whole")
    with pytest.raises(Stop):
        pretrain(tiny_world(), CONFIG, tmp_path / "cut", checkpoint_every=4, progress=stop_at(4))
    resumed = []
    out = pretrain(tiny_world(), longer, tmp_path / "cut", progress=lambda step, *_: resumed.append(step))
    assert resumed == list(range(4, 12))
    for name in ("model.safetensors", "pretraining.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(("kept", "steps"), [(6, 12), (4, 6), (6, 5)], ids=["falls already", "would fall", "too long"])
def test_once_the_rates_fall_the_length_is_settled(tmp_path, kept, steps):
    with pytest.raises(Stop):
        pretrain(tiny_world(), CONFIG, tmp_path, checkpoint_every=kept, progress=stop_at(kept))
    with pytest.raises(AnachronError, match="another configuration"):
        pretrain(tiny_world(), replace(CONFIG, steps=steps), tmp_path)


def test_matrices_are_trained_by_muon_and_the_others_by_adam(tokenizer):
    model = build_model(CONFIG, tokenizer)
    muon, adam = build_optimizers(CONFIG, model)
    trained = [{id(p) for p in optimizer.param_groups[0]["params"]} for optimizer in (muon, adam)]
    for name, parameter in model.named_parameters():
        matrix = name.endswith("_proj.weight")
        assert (id(parameter) in trained[0], id(parameter) in trained[1]) == (matrix, not matrix), name
    assert muon.param_groups[0]["weight_decay"] == CONFIG.weight_decay and adam.param_groups[0]["weight_decay"] == 0


def test_both_rates_keep_the_pace(tmp_path, monkeypatch):
    rates = []
    for optimizer in (module.Muon, torch.optim.AdamW):

        def recorded(self, step=optimizer.step):
            rates.append(self.param_groups[0]["lr"])
            return step(self)

        monkeypatch.setattr(optimizer, "step", recorded)
    pretrain(tiny_world(), CONFIG, tmp_path)
    paces = [CONFIG.pace(step) for step in range(CONFIG.steps)]
    assert rates[::2] == pytest.approx([CONFIG.matrix_rate * pace for pace in paces])
    assert rates[1::2] == pytest.approx([CONFIG.learning_rate * pace for pace in paces])


def test_the_loss_weighs_what_users_say_less():
    bos, user, assistant, pad = 1, 2, 3, 0
    ids = [
        [bos, user, 10, 11, 4, assistant, 12, 4, user, 13, 4, assistant, 14, 4],
        [bos, 10, 11, 12, 4, user, 13, 4, assistant, 14, 4, pad, pad, pad],
        [bos, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 4],  # a statement
    ]
    less = 0.25
    # a user's turn is everything after its tag, up to and with the tag of who speaks next
    expected = [
        [1, 1, less, less, less, less, 1, 1, 1, less, less, less, 1, 1],
        [1, 1, 1, 1, 1, 1, less, less, less, 1, 1, 1, 1, 1],
        [1] * 14,
    ]
    found = loss_weights(torch.tensor(ids), user, assistant, less)
    assert found.tolist() == expected
    assert loss_weights(torch.tensor(ids), user, assistant, 1.0).eq(1).all()


@pytest.fixture
def weighed(tokenizer, monkeypatch):
    """(step, losses) of a tiny model on the same documents at every step, whatever its number.

    `step(k, user_weight)` returns (gradient, loss, tokens) of what is trained on; `losses(user_weight)` returns
    (gradient, loss) of all tokens, each with its weight as a target.
    """
    model = build_model(CONFIG, tokenizer)
    rows = encode_documents(tiny_world(), tokenizer, 5, 4, 80)
    user, assistant = tokenizer.convert_tokens_to_ids([USER, ASSISTANT])
    tokens = sum(len(row) - 1 for row in rows)
    batches = module.microbatches
    monkeypatch.setattr(module, "encode_documents", lambda *_: rows)
    monkeypatch.setattr(module, "microbatches", lambda rows, pad: batches(rows, pad, 160))  # several

    def gradient():
        found = torch.cat([parameter.grad.flatten().double() for parameter in model.parameters()])
        model.zero_grad(set_to_none=True)
        return found

    def step(k, user_weight, precision="float32"):
        config = replace(CONFIG, user_weight=user_weight, precision=precision)
        loss, n = module._step(model, tokenizer, tiny_world(), config, k)
        return gradient(), loss, n

    def losses(user_weight):
        total = torch.zeros(())
        for row in rows:  # one by one, without padding
            ids = torch.tensor([row])
            weights = loss_weights(ids, user, assistant, user_weight)[0, 1:]
            each = torch.nn.functional.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none")
            total = total + (weights * each).sum() / tokens
        total.backward()
        return gradient(), total.item()

    return step, losses, tokens


def test_with_every_token_a_target_a_step_follows_the_plain_loss(weighed):
    step, losses, tokens = weighed
    for k in (0, 1):  # whatever is drawn
        found, loss, n = step(k, 1.0)
        expected, plain = losses(1.0)
        assert n == tokens and loss == pytest.approx(plain, rel=1e-5)
        assert (found - expected).norm() < 1e-5 * expected.norm()


def test_rounded_products_leave_the_gradient_its_direction(weighed):
    step, losses, _ = weighed
    found, loss, _ = step(0, 1.0, "bfloat16")
    expected, plain = losses(1.0)
    # a bfloat16 has 8 bits: relative errors of some 2^-9 each, and they must be there
    assert 1e-5 < (found - expected).norm() / expected.norm() < 0.02
    assert loss == pytest.approx(plain, rel=0.01)


def test_an_unknown_precision_is_refused():
    with pytest.raises(AnachronError, match="no precision 'float16'; there are float32, bfloat16"):
        Pretraining(precision="float16")


def test_a_model_keeps_no_trace_of_the_attention_it_was_trained_with(tmp_path):
    out = pretrain(tiny_world(), replace(CONFIG, steps=1, precision="bfloat16"), tmp_path)
    assert "causal_float32" not in (out / "config.json").read_text()
    lm = load_model(out)
    assert lm.model.config._attn_implementation == "sdpa" and lm.model.dtype == torch.float32


def test_a_step_follows_the_weighed_loss_in_expectation(weighed):
    step, losses, _ = weighed
    weight, n = 0.25, 150
    draws = [step(k, weight) for k in range(n)]
    found = torch.stack([gradient for gradient, _, _ in draws])
    expected, _ = losses(weight)
    unweighed, plain = losses(1.0)
    # the squared distance of a mean of n from its expectation is about its variance, summed over all entries
    variance = found.var(0).sum().item() / n
    assert 0 < (found.mean(0) - expected).square().sum().item() < 2 * variance
    assert (found.mean(0) - unweighed).square().sum().item() > 20 * variance
    # the loss that is told estimates that of all tokens, each with weight 1
    told = torch.tensor([loss for _, loss, _ in draws], dtype=torch.float64)
    assert abs(told.mean().item() - plain) < 4 * told.std().item() / math.sqrt(n)
    # and a step draws the same every time
    again, loss, _ = step(3, weight)
    assert torch.equal(again, found[3]) and loss == draws[3][1]


def test_another_seed_makes_another_model_and_no_global_randomness_is_used(tmp_path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    a = pretrain(tiny_world(), replace(CONFIG, steps=1), tmp_path / "a")
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(6)
    b = pretrain(tiny_world(), replace(CONFIG, steps=1), tmp_path / "b")
    c = pretrain(tiny_world(), replace(CONFIG, steps=1, seed=2), tmp_path / "c")
    weights = [(folder / "model.safetensors").read_bytes() for folder in (a, b, c)]
    assert weights[0] == weights[1] != weights[2]


def test_another_configuration_is_refused(tmp_path):
    with pytest.raises(Stop):
        pretrain(tiny_world(), CONFIG, tmp_path, checkpoint_every=2, progress=stop_at(2))
    with pytest.raises(AnachronError, match="another configuration"):
        pretrain(tiny_world(), replace(CONFIG, matrix_rate=0.03), tmp_path, checkpoint_every=2)


def test_a_finished_run_is_refused_before_anything_is_done(tmp_path, monkeypatch):
    pretrain(tiny_world(), replace(CONFIG, steps=1), tmp_path)
    kept = (tmp_path / "model.safetensors").read_bytes()
    monkeypatch.setattr(module, "train_tokenizer", None)
    with pytest.raises(AnachronError, match="holds a finished run"):
        pretrain(tiny_world(), CONFIG, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == kept


def test_a_truncated_checkpoint_is_named(tmp_path):
    with pytest.raises(Stop):
        pretrain(tiny_world(), CONFIG, tmp_path, checkpoint_every=2, progress=stop_at(2))
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AnachronError, match=r"checkpoint\.safetensors"):
        pretrain(tiny_world(), CONFIG, tmp_path)


def test_a_run_that_diverges_stops_and_writes_no_model(tmp_path):
    with pytest.raises(AnachronError, match=r"the loss is .*; lower the learning rate"):
        pretrain(tiny_world(), replace(CONFIG, learning_rate=1e30), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_reaches_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(math.inf))
    with pytest.raises(AnachronError, match="norm of its gradient inf"):
        pretrain(tiny_world(), replace(CONFIG, steps=1), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_the_pace_rises_stays_and_falls_to_a_hundredth():
    config = Pretraining(steps=1000, warmup=100)
    paces = [config.pace(step) for step in range(config.steps)]
    assert paces[:100] == pytest.approx([(k + 1) / 100 for k in range(100)])
    assert paces[100:501] == [1] * 401
    assert paces[750] == pytest.approx(0.01 + 0.99 / 2)
    assert paces[999] == pytest.approx(0.01 + 0.99 / 500)
    assert all(a > b for a, b in pairwise(paces[500:]))
    # what was done before the fall doesn't depend on the length
    assert [replace(config, steps=3000).pace(step) for step in range(501)] == paces[:501]
    assert Pretraining(steps=1, warmup=0, decay=0.0).pace(0) == 1


def test_microbatches_hold_every_row_once_and_mask_the_padding():
    rows = [[k + 1] * n for k, n in enumerate((3, 7, 1, 5, 5, 2))]
    found = []
    for ids, labels in microbatches(rows, pad=0, most=12):
        assert ids.numel() <= 12
        assert torch.equal(labels == -100, ids == 0)
        assert torch.equal(labels[labels != -100], ids[ids != 0])
        found += [row[row != 0].tolist() for row in ids]
    assert sorted(found) == sorted(rows)
    # a row longer than a batch may be goes alone
    assert [ids.shape for ids, _ in microbatches([[1] * 9, [1] * 8], pad=0, most=4)] == [(1, 9), (1, 8)]


def test_the_loss_is_the_summed_surprise_of_every_next_token(tokenizer):
    model = build_model(CONFIG, tokenizer).eval()
    rows = encode_documents(tiny_world(), tokenizer, 3, 5, CONFIG.context)
    with torch.no_grad():
        expected = 0.0
        for row in rows:  # one by one, without padding, token by token
            for t in range(1, len(row)):
                logits = model(input_ids=torch.tensor([row[:t]])).logits[0, -1]
                expected -= torch.log_softmax(logits.double(), -1)[row[t]].item()
        found = sum(nats(model, ids, labels).item() for ids, labels in microbatches(rows, tokenizer.pad_token_id, 400))
    assert found == pytest.approx(expected, rel=1e-5)


def test_documents_are_cut_at_the_context(tokenizer):
    whole = encode_documents(tiny_world(), tokenizer, 3, 5, 10_000)
    assert encode_documents(tiny_world(), tokenizer, 3, 5, 9) == [row[:9] for row in whole]
    assert all(row[0] == tokenizer.bos_token_id for row in whole)


def test_the_checkpoint_loads_as_a_language_model(tmp_path):
    out = pretrain(tiny_world(), replace(CONFIG, steps=1), tmp_path)
    lm = load_model(out)
    assert (lm.n_layers, lm.d_model) == (CONFIG.layers, CONFIG.d_model)
    weights, _ = load_tensors(out / "model.safetensors")
    assert "lm_head.weight" not in weights  # tied to the embedding
    assert lm.model.lm_head.weight is lm.model.model.embed_tokens.weight
    ends = [lm.tokenizer.eos_token_id, lm.tokenizer.convert_tokens_to_ids("<|eos|>")]
    assert lm.model.generation_config.eos_token_id == ends
