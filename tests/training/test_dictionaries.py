"""Training SAEs: planted latents are found, runs repeat and resume to the byte, what is written is what was trained."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from interp.capture import capture
from interp.dictionaries.evaluation import reconstruction
from interp.dictionaries.formats import load_dictionary
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.positions import ALL, span
from interp.prompts import Encoded, encode_text
from tests.families import build
from tests.training.tiny import tiny_world
from training.activations import Rows
from training.corpus import Corpus, file_corpus, read_texts, world_corpus
from training.dictionaries import train_sae
from training.sae_recipes import ARCHITECTURES, SaeRecipe

POINT = HookPoint(1)
SHORT = SaeRecipe(d_sae=48, k=4, steps=24, batch_size=32, dead_after=5, learning_rate=5e-3)


@pytest.fixture(scope="module")
def model():
    return build("llama")


@pytest.fixture
def corpus(model):
    return world_corpus(model, tiny_world(), block=12)


def recipe(architecture, **fields):
    widths = (8, 24) if architecture == "matryoshka" else ()
    return replace(SHORT, architecture=architecture, widths=widths, **fields)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_runs_repeat_and_resume_to_the_byte(model, corpus, tmp_path, architecture):
    steps = []
    how = recipe(architecture)
    train_sae(model, corpus, POINT, how, tmp_path / "whole", progress=lambda *figures: steps.append(figures))
    assert [step for step, _, _ in steps] == list(range(1, 25))
    assert all(fvu > 0 and 0 < l0 <= how.d_sae for _, fvu, l0 in steps)

    def stop(step, fvu, l0):
        if step == 17:
            raise Stopped

    torch.rand(3)  # the caller's random state has no part in it
    with pytest.raises(Stopped):
        train_sae(model, corpus, POINT, how, tmp_path / "cut", progress=stop, checkpoint_every=5)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["checkpoint-00000015"]
    with pytest.raises(AnachronError, match=r"checkpoint-00000015: the checkpoint of a run with another"):
        train_sae(model, corpus, POINT, replace(how, seed=1), tmp_path / "cut")
    first = []
    train_sae(model, corpus, POINT, how, tmp_path / "cut", progress=lambda step, *_: first.append(step))
    assert first[0] == 16
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert set(contents(tmp_path / "whole")) == {"cfg.json", "sae_weights.safetensors", "training.json"}
    with pytest.raises(AnachronError, match="finished run"):
        train_sae(model, corpus, POINT, how, tmp_path / "whole")
    train_sae(model, corpus, POINT, replace(how, seed=1), tmp_path / "other")
    assert (
        contents(tmp_path / "other")["sae_weights.safetensors"]
        != contents(tmp_path / "whole")["sae_weights.safetensors"]
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_written_is_what_was_trained(model, corpus, tmp_path, architecture):
    """In the model's own units: what our reader and sae-lens make of the files has the quality of the last batches."""
    from sae_lens import SAE

    figures = []
    how = recipe(architecture, steps=200)
    train_sae(model, corpus, POINT, how, tmp_path, progress=lambda *found: figures.append(found))
    ours = load_dictionary(tmp_path, lm=model)
    theirs = SAE.load_from_disk(tmp_path)
    encoded = corpus.block(100)
    x = capture(model, encoded, [POINT], ALL)[POINT]
    with torch.no_grad():
        torch.testing.assert_close(ours.encode(x), theirs.encode(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.decode(ours.encode(x)), theirs(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.decoder.norm(dim=1), torch.ones(how.d_sae), rtol=0, atol=1e-3)
    found = reconstruction(model, ours, encoded)
    late = torch.tensor(figures[-20:]).mean(dim=0)
    assert found.fvu == pytest.approx(float(late[1]), rel=0.3)
    assert found.fvu < 0.5 * figures[0][1]
    assert found.l0 == pytest.approx(float(late[2]), rel=0.3)
    if architecture in ("batchtopk", "matryoshka", "topk"):
        assert found.l0 == pytest.approx(how.k, rel=0.3)
    about = json.loads((tmp_path / "cfg.json").read_text())["metadata"]["trained_on"]
    assert (about["point"], about["positions"], about["recipe"]["architecture"]) == (
        "1.resid_post",
        "all",
        architecture,
    )


def test_planted_latents_are_found(model, tmp_path):
    """Before the first block an activation is its token's embedding: with k = 1 each token should get its latent."""
    tokens = list(range(10, 34))

    def block(i):
        drawn = torch.randint(len(tokens), (64, 8), generator=torch.Generator().manual_seed(i)).tolist()
        return [Encoded(tuple(tokens[t] for t in row), 0) for row in drawn]

    point = HookPoint(0, "resid_pre")
    how = SaeRecipe("topk", d_sae=40, k=1, steps=600, batch_size=128, learning_rate=1e-2, dead_after=20)
    train_sae(model, Corpus({"corpus": "planted"}, block), point, how, tmp_path)
    sae = load_dictionary(tmp_path, lm=model)
    assert reconstruction(model, sae, block(999)).fvu < 0.01
    embeddings = model.model.get_input_embeddings().weight[tokens]
    active = sae.encode(embeddings).argmax(dim=1)
    assert len(set(active.tolist())) >= 0.9 * len(tokens)
    cosine = torch.nn.functional.cosine_similarity(sae.decoder[active], embeddings - sae.b_dec)
    assert cosine.median() > 0.99


def test_a_stream_goes_on_from_a_place(model, corpus):
    size = 100
    first = Rows(model, corpus, POINT, ALL, size, seed=3)
    batches, places = [], []
    for _ in range(9):
        places.append(first.place)
        batches.append(next(first))
    assert places[0] == (0, 0) and places[-1][0] > 0, "more than one block is needed"
    for i in (2, 7, 8):
        again = Rows(model, corpus, POINT, ALL, size, seed=3, place=places[i])
        assert torch.equal(next(again), batches[i])
    assert not torch.equal(next(Rows(model, corpus, POINT, ALL, size, seed=4)), batches[0])
    # a block's batches are its activations, each once, but for what fills no batch
    rows = capture(model, corpus.block(0), [POINT], ALL)[POINT]
    taken = torch.cat(batches[: len(rows) // size])
    assert len(taken) == len(rows) // size * size
    left = Counter(map(tuple, rows.tolist()))
    left.subtract(map(tuple, taken.tolist()))
    assert min(left.values()) == 0 and sum(left.values()) == len(rows) - len(taken)


def test_streams_too_thin_for_a_batch_are_refused(model, corpus):
    with pytest.raises(AnachronError, match="12 activations for a batch of 32"):
        next(Rows(model, corpus, POINT, span(0, 1), 32, seed=0))


def test_the_worlds_corpus_never_repeats(model):
    corpus = world_corpus(model, tiny_world(), block=30)
    assert corpus.block(2) == corpus.block(2) != corpus.block(3)
    assert len(corpus.block(0)) == 30


def test_a_files_rows_come_once_a_pass(model, tmp_path):
    path = tmp_path / "texts.jsonl"
    texts = ["By train", "The river", "Two kings", "A bird", "Oh, no"]
    chat = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "The Thames"}]
    lines = [json.dumps({"text": text}) for text in texts] + [json.dumps({"messages": chat})]
    path.write_text("\n".join(lines) + "\n\n")
    rows = read_texts(model, path)
    assert rows[0] == encode_text(model, "By train") and rows[5].prompt_len < len(rows[5].ids)
    corpus = file_corpus(model, path, block=4, seed=1)
    drawn = [row for i in range(6) for row in corpus.block(i)]
    passes = [drawn[i : i + 6] for i in range(0, 24, 6)]
    assert all(sorted(p, key=repr) == sorted(rows, key=repr) for p in passes)
    assert any(p != passes[0] for p in passes)
    assert corpus.block(3) == drawn[12:16]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"texts.jsonl:1: not a line of JSON"),
        ('{"text": " "}', r"texts.jsonl:1: neither"),
        ('{"text": "a"}\n[1]', r"texts.jsonl:2: neither"),
        ('{"messages": [{"role": "user", "content": "a"}]}', r"texts.jsonl:1: last message has role"),
        ("\n", "holds no rows"),
    ],
)
def test_bad_files_are_refused_by_line(model, tmp_path, text, message):
    (tmp_path / "texts.jsonl").write_text(text)
    with pytest.raises(AnachronError, match=message):
        read_texts(model, tmp_path / "texts.jsonl")
    with pytest.raises(AnachronError, match="no such file"):
        read_texts(model, tmp_path / "other.jsonl")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "gated"}, "use one of batchtopk"),
        ({"precision": "float16"}, "use bfloat16 or float32"),
        ({"stored": "bfloat16"}, "use float16 or float32"),
        ({"steps": 0}, "steps=0"),
        ({"architecture": "topk", "k": 4.5}, "a whole number"),
        ({"k": 99, "d_sae": 64}, "k=99 of d_sae=64"),
        ({"warmup": 0.6, "decay": 0.6}, "parts of one whole"),
        ({"architecture": "matryoshka"}, "matryoshka alone needs them"),
        ({"widths": (4, 8)}, "matryoshka alone needs them"),
        ({"architecture": "matryoshka", "widths": (64, 64), "d_sae": 256}, "don't rise"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(AnachronError, match=message):
        SaeRecipe(**fields)


def test_a_diverging_run_says_so(model, corpus, tmp_path):
    with pytest.raises(AnachronError, match=r"the loss is (nan|inf) at step"):
        train_sae(model, corpus, POINT, replace(SHORT, learning_rate=1e30), tmp_path)
    with pytest.raises(AnachronError, match="layers 0 to 2"):
        train_sae(model, corpus, HookPoint(9), SHORT, tmp_path)
