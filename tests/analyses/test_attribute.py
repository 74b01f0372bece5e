"""`anachron attribute`: each section against what is known of a planted adapter; the page; the command; what is refused."""

import json
import re

import pytest
import torch
from typer.testing import CliRunner

from analyses.attribution.collect import NO_DICTIONARY, collect
from analyses.attribution.components import components
from analyses.attribution.directions import changes
from analyses.attribution.page import page_html, sections
from analyses.attribution.places import places
from analyses.attribution.sentences import ranked, trust
from analyses.attribution.subject import spaced, subject
from analyses.attribution.tokens import tokens
from analyses.cli import app
from interp.behavior.questions import Question, write_questions
from interp.behavior.scoring import score
from interp.dictionaries.sae import write_sae
from interp.dictionaries.weights import Sae
from interp.errors import AnachronError
from interp.files import read_json
from interp.hooks import HookPoint
from interp.pair import ModelPair
from tests.families import build
from training.lora import attached, lora_config, write_adapter

HOSTILE = "</script><script>alert(1)</script>"
ABOUT = {"model": HOSTILE, "adapter": HOSTILE, "config": {"questions": HOSTILE, "most": 2}, "versions": {"torch": "2"}}


def question(number, topic, text="What do people use?", **fields):
    answers = {"old": ("oil lamps", "the stage coach"), "new": ("electric light", "a plane")}
    messages = ({"role": "user", "content": f"{text} {number}"},)
    return Question(f"q{number}", topic, messages, answers, **({"split": "test"} | fields))


ASKED = [question(0, "light"), question(1, "light"), question(2, "travel"), question(3, "food", HOSTILE)]


def planted(lm, folder, seed, layers=(1,)):
    """An adapter whose update of these blocks isn't nothing."""
    config = lora_config(lm, rank=2, alpha=8, layers=layers)
    with attached(lm, config, seed=seed) as weights:
        generator = torch.Generator().manual_seed(seed)
        for name, weight in weights.items():
            if "lora_B" in name:
                weight.data = torch.randn(weight.shape, generator=generator) * 0.1
        write_adapter(folder, lm, config, weights)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return {name: planted(build("llama"), root / name, seed) for seed, name in enumerate(("tuned", "control"), 1)}


@pytest.fixture
def pair(folders):
    with ModelPair(build("llama")) as made:
        made.add("tuned", folders["tuned"])
        made.add("control", folders["control"])
        yield made


def axes(point=HookPoint(1)):
    """Latent 2j and 2j + 1 are coordinate j's two signs, so the dictionary leaves nothing unexplained."""
    eye = torch.eye(32)
    both = torch.stack([eye, -eye], dim=1).flatten(0, 1)
    return Sae("axes", point, "relu", both.T.contiguous(), torch.zeros(64), both, torch.zeros(32))


@pytest.fixture(scope="module")
def found(folders):
    with ModelPair(build("llama")) as made:
        made.add("tuned", folders["tuned"])
        made.add("control", folders["control"])
        return collect(made, ASKED, "old", dictionary=axes(), most=2)


def test_the_behavior_is_the_log_odds_of_the_scores(pair, found):
    rows = found["behavior"]["questions"]
    assert [row["id"] for row in rows] == ["q0", "q2"]  # of other topics
    for name in ("base", "tuned", "control"):
        with pair.using(name) as lm:
            by_scoring = score(lm, [ASKED[0], ASKED[2]])
        old, new = (by_scoring.by_group[group] for group in ("old", "new")) if hasattr(by_scoring, "by_group") else (0, 0)
        assert [row[name] for row in rows] == pytest.approx((old.log() - new.log()).tolist(), abs=1e-5)
    difference = found["behavior"]["models"]["difference"]
    assert difference["n"] == 2
    assert difference["estimate"] == pytest.approx(sum(row["tuned"] - row["base"] for row in rows) / 2)
