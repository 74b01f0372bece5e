"""`anachron crosscoder train` on a tiny model and an adapter that changes it; what the benchmark compares."""

import json

import pytest
import torch
from typer.testing import CliRunner

from analyses.bench.crosscoder import _direct, _pairs, _random
from analyses.cli import app
from interp.dictionaries.crosscoder import CLASSES, load_crosscoder
from interp.dictionaries.formats import load_dictionary
from interp.dictionaries.scaling import latent_scaling
from interp.files import read_json
from tests.families import CORPUS, build
from training.lora import attached, lora_config, write_adapter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, an adapter of random weights on it, and texts."""
    folder = tmp_path_factory.mktemp("crosscoder")
    lm = build("llama")
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    config = lora_config(lm, rank=2, alpha=4)
    with attached(lm, config, seed=0) as weights:
        with torch.no_grad():
            for weight in weights.values():
                weight.copy_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
        write_adapter(folder / "adapter", lm, config, weights)
    texts = [sentence for text in CORPUS for sentence in text.split(". ")]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def train(folder, out, *options):
    command = ["crosscoder", "train", "--adapter", folder / "adapter", "--model", folder / "model", "--out", out]
    command += ["--corpus", folder / "texts.jsonl", "--documents-per-block", 16, "--d-sae", 64, "--k", 4]
    command += ["--steps", 20, "--batch-size", 64, "--point", 1, *options]
    return CliRunner().invoke(app, [str(part) for part in command], catch_exceptions=False)


def test_train_writes_a_crosscoder_and_what_its_latents_are(folder, tmp_path):
    result = train(folder, tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    coder = load_crosscoder(tmp_path / "out" / "crosscoder")
    assert (coder.d_model, coder.d_sae, str(coder.point)) == (32, 64, "1.resid_post")
    found = read_json(tmp_path / "out" / "latents.json")
    results = found["results"]
    assert results["alive"] == int(coder.alive.sum()) and 0 < results["fvu"]["base"] < 1 and 0 < results["l0"] < 16
    for kind in CLASSES:
        listed = [latent["latent"] for latent in results["latents"] if latent["class"] == kind]
        assert listed == coder.latents(kind).tolist()
    for side, decoder in zip(("base", "tuned"), coder.decoders, strict=True):
        assert torch.equal(load_dictionary(tmp_path / "out" / side).decoder, decoder)
    about = found["trained"]["about"]
    assert set(about["adapters"]) == {"tuned"} and about["corpus"] == "texts.jsonl"
    assert str(folder) not in json.dumps(about)


def test_an_adapter_against_itself_differs_in_nothing(folder, tmp_path):
    result = train(folder, tmp_path / "out", "--against", folder / "adapter")
    assert result.exit_code == 0, result.stderr
    results = read_json(tmp_path / "out" / "latents.json")["results"]
    assert {latent["class"] for latent in results["latents"]} == {"shared"}
    assert results["fvu"]["base"] == pytest.approx(results["fvu"]["tuned"], rel=1e-3)


def test_what_is_wrong_is_said(folder, tmp_path):
    result = train(folder, tmp_path / "out", "--point", 9)
    assert result.exit_code == 2 and "layers 0 to 2" in result.stderr
    result = train(folder, tmp_path / "out", "--batch-size", 100_000)
    assert result.exit_code == 2 and "fewer than a batch of 100000" in result.stderr


def test_the_benchmark_compares_equal_things():
    coder, (base, tuned) = _random(16, 64), _pairs(128, 16)
    direct = _direct(coder, base, tuned).double()
    closed = latent_scaling(coder, [(base, tuned)]).beta("error", "base")
    torch.testing.assert_close(closed, direct, rtol=1e-4, atol=1e-5)
    assert 4 < float((coder.encode(base, tuned) > 0).sum(dim=1).float().mean()) < 32
