"""Pages from measurements: every number is the measurement's own, and the page they make can be written."""

import pytest
import torch

from analyses.pages.collect import collect, crosscoder_groups, read_details
from analyses.pages.data import Label
from analyses.pages.write import page_html
from interp.capture import capture
from interp.dictionaries.crosscoder import Crosscoder
from interp.dictionaries.diff import diff
from interp.dictionaries.examples import survey
from interp.dictionaries.explain import Guess
from interp.dictionaries.labels import Labels
from interp.dictionaries.readout import token_logits
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.pair import ModelPair
from interp.positions import ALL
from interp.prompts import encode_prompt
from tests.families import build
from tests.interp.dictionaries.planted import dead, random_dictionary
from tests.interp.test_pair import make_adapter

D_SAE, DEAD = 40, 7
DICTIONARY = dead(random_dictionary(32, D_SAE, bias=-1.0), [DEAD])
ADAPTERS = ("tuned-0", "tuned-1", "control-0", "control-1")
MODELS = {"base": ["base"], "tuned": ADAPTERS[:2], "control": ADAPTERS[2:]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    with ModelPair(build("llama")) as pair:
        for seed, name in enumerate(ADAPTERS):
            pair.add(name, make_adapter(folder / name, seed=seed + 1))
        yield pair


@pytest.fixture(scope="module")
def prompts(pair):
    return [encode_prompt(pair.base, text) for text in ("Name a bird.", "How many states?", "Who rules? 1849", "Sure!")]


@pytest.fixture(scope="module")
def found(pair, prompts):
    return diff(pair, DICTIONARY, prompts, ALL, tuned=ADAPTERS[:2], control=ADAPTERS[2:], samples=100)


@pytest.fixture(scope="module")
def details(pair, prompts):
    with pair.using("tuned-0") as lm:
        seen = survey(lm, DICTIONARY, prompts, top=3, watch=range(D_SAE))
        return read_details(lm, DICTIONARY, prompts, seen, source="questions")


def labels(states, choosing, held_out):
    choosing, held_out = torch.tensor(choosing), torch.tensor(held_out)
    n = len(choosing)
    counts = torch.ones(len(states), dtype=torch.long)
    return Labels(tuple(states), choosing, held_out, counts, torch.ones(n), choosing.argmax(dim=1))


def test_rows_are_the_diffs(found, details):
    page = collect("birds", found, details, models=MODELS, facts={"dictionary": "planted"})
    assert [row.latent for row in page.rows] == list(range(D_SAE))
    assert page.models == list(MODELS)
    assert page.contrasts == ["tuned_minus_base", "tuned_minus_control", "control_minus_base"]
    assert page.facts["prompts"] == "4" and page.facts["dictionary"] == "planted"
    for row in page.rows:
        for name in page.contrasts:
            one = found.row(row.latent, name)
            shown = row.contrasts[name]
            assert (shown.estimate, shown.low, shown.high, shown.q) == (one.mean, one.low, one.high, one.q)
        assert row.mean["tuned"] == pytest.approx((one.means["tuned-0"] + one.means["tuned-1"]) / 2)
        assert row.frequency["base"] == one.frequencies["base"]
        # a contrast of means is the difference of the columns
        assert row.contrasts["tuned_minus_base"].estimate == pytest.approx(
            row.mean["tuned"] - row.mean["base"], abs=1e-9
        )
    assert page.rows[DEAD].group == "never active"


def test_each_arm_is_a_model_unless_said(found, details):
    assert collect("birds", found, details).models == ["base", *ADAPTERS]


def test_details_equal_a_dense_reading(pair, prompts, details):
    with pair.using("tuned-0") as lm:
        f = DICTIONARY.encode(capture(lm, prompts, [DICTIONARY.point], ALL)[DICTIONARY.point].float())
        logits = token_logits(lm, DICTIONARY.decoder)
        texts = [lm.tokenizer.decode([i]) for row in prompts for i in row.ids]
    on = f > 0
    assert set(details) == set(on.any(0).nonzero().squeeze(1).tolist()) and DEAD not in details
    for j, detail in details.items():
        assert sum(detail.histogram.counts) == int(on[:, j].sum())
        assert detail.histogram.counts[0] and detail.histogram.counts[-1]
        assert detail.histogram.edges[0] <= float(f[on[:, j], j].min()) * 1.001
        assert detail.histogram.edges[-1] >= float(f[:, j].max()) * 0.999
        first = detail.examples[0]
        at = int(f[:, j].argmax())
        assert max(first.values) == pytest.approx(float(f[at, j]), rel=1e-3)
        assert first.tokens[first.values.index(max(first.values))] == texts[at]
        assert first.source == "questions"
        assert [value for _, value in detail.promoted] == pytest.approx(logits[j].topk(10).values.tolist(), abs=1e-4)
        assert detail.suppressed[0][1] == pytest.approx(float(logits[j].min()), abs=1e-4)
        for other, jaccard in detail.coactive:
            both, either = (on[:, j] & on[:, other]).sum(), (on[:, j] | on[:, other]).sum()
            assert other != j and jaccard == pytest.approx(float(both / either))


def test_the_page_can_be_written(found, details):
    html = page_html(collect("birds", found, details, models=MODELS))
    assert html == page_html(collect("birds", found, details, models=MODELS)) and "chunk-0" in html


def test_labels_are_held_out_and_the_chosen_one_comes_first(found):
    choosing, held_out = torch.full((D_SAE, 3), 0.5), torch.full((D_SAE, 3), 0.5)
    choosing[0], held_out[0] = torch.tensor([0.8, 0.9, 0.5]), torch.tensor([0.95, 0.85, 0.99])
    choosing[1], held_out[1] = torch.tensor([0.9, 0.8, 0.5]), torch.tensor([0.6, 0.9, 0.5])
    states = ("era: 1850s", "topic: birds", "rare")
    page = collect("birds", found, {}, labels=labels(states, choosing.tolist(), held_out.tolist()))
    shown = [[(one.kind, one.state, round(one.auroc, 3)) for one in row.labels] for row in page.rows]
    assert shown[0] == [("topic", "birds", 0.85), ("era", "1850s", 0.95)]
    assert shown[1] == []  # its chosen state failed on the other half
    assert not any(shown[2:])
    choosing[2, 2] = held_out[2, 2] = 0.875
    page = collect("birds", found, {}, labels=labels(states, choosing.tolist(), held_out.tolist()))
    assert page.rows[2].labels == (Label("state", "rare", 0.875),)


def test_groups_and_guesses(found):
    guesses = [Guess(3, "old birds", {"kind": "endpoint", "model": "some-model"})]
    page = collect("birds", found, {}, groups={3: "tuned-only"}, guesses=guesses)
    assert (page.rows[3].group, page.rows[3].description, page.describer) == ("tuned-only", "old birds", "some-model")
    assert (page.rows[4].group, page.rows[4].description) == ("", "")


def test_groups_of_a_crosscoder_are_its_classes():
    decoders = torch.zeros(2, 5, 4)
    decoders[:, :, 0] = torch.tensor([[1.0, 1.0, 0.0, 0.5, 1.0], [1.0, 0.0, 1.0, 1.0, 1.0]])
    alive = torch.tensor([True, True, True, True, False])
    crosscoder = Crosscoder(
        "x", HookPoint(1), decoders.clone(), torch.zeros(5), decoders, torch.zeros(2, 4), 0.0, (1.0, 1.0), alive
    )
    assert crosscoder_groups(crosscoder) == {0: "shared", 1: "base-only", 2: "tuned-only"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": {"tuned": ["tuned-9"]}}, "tuned-9; the diff has base, tuned-0"),
        ({"models": {"tuned": []}}, "one without arms"),
        ({"labels": labels(("a",), [[0.5]], [[0.5]])}, f"the diff is of {D_SAE} latents, the labels of 1"),
    ],
)
def test_what_does_not_fit_is_refused(found, options, message):
    with pytest.raises(AnachronError, match=message):
        collect("birds", found, {}, **options)


def test_a_survey_of_another_dictionary_is_refused(pair, prompts):
    seen = survey(pair.base, DICTIONARY, prompts)
    with pytest.raises(AnachronError, match=f"planted has 9 latents, the survey {D_SAE}"):
        read_details(pair.base, random_dictionary(32, 9), prompts, seen)
