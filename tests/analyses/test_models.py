"""How commands open a model: where its weights go."""

import json

import pytest
import torch

from analyses.models import open_model
from interp.errors import AnachronError
from interp.prompts import encode_prompt, pad
from tests.families import build


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    lm = build("llama")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return str(folder)


def logits(lm):
    batch = pad([encode_prompt(lm, "Name a bird.")], lm.pad_id)
    with torch.no_grad():
        return lm.model(**batch.inputs).logits


def test_a_map_is_a_word_or_a_file(saved, tmp_path):
    path = tmp_path / "map.json"
    parts = {"model.layers": "disk", "model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu"}
    path.write_text(json.dumps({**parts, "lm_head": "cpu"}))
    plain = open_model(saved, None, "auto", "cpu")
    for device_map, waiting in (("auto", 0), (str(path), plain.n_layers)):
        lm = open_model(saved, None, "auto", "cpu", device_map)
        assert sum(layer.mlp.down_proj.weight.is_meta for layer in lm.anatomy.layers) == waiting
        assert torch.equal(logits(lm), logits(plain))


@pytest.mark.parametrize("content", ["[0, 1]", '{"model": ["cpu"]}', '{"model": true}'])
def test_what_is_no_map_is_refused(saved, tmp_path, content):
    path = tmp_path / "map.json"
    path.write_text(content)
    with pytest.raises(AnachronError, match=r"map\.json: not a device map"):
        open_model(saved, None, "auto", "cpu", str(path))


def test_quantization_is_handed_on(saved):
    with pytest.raises(AnachronError, match="unknown quantization '2bit'"):
        open_model(saved, None, "auto", "cpu", None, "2bit")
