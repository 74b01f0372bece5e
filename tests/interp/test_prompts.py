"""Token ids around the boundary of prompt and answer, and padding."""

import numpy as np
import pytest
import torch

from interp.errors import AnachronError
from interp.prompts import (
    Encoded,
    batches,
    encode_answers,
    encode_chat,
    encode_prompt,
    encode_text,
    end_of_turn,
    pad,
    render,
)
from tests.families import build, tokenizer

QUESTION = "Name a bird of the river."
ANSWERS = ("Brown Titlark", "It is the old queen.", "x", "1876", "Sure! A\nsecond line", "café")

# how published chat models write a turn; the last keeps reasoning out of earlier turns
TEMPLATES = {
    "role tag and newline": (
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    "brackets, end of text": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] | trim }} [/INST]"
        "{% else %} {{ m['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "empty reasoning": (
        "{% set off = '<think>\n\n</think>\n\n' %}{% for m in messages %}<|{{ m['role'] }}|>\n"
        "{% if m['role'] == 'assistant' and loop.last %}{{ off }}{% endif %}{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n"
        "{% if enable_thinking is defined and not enable_thinking %}{{ off }}{% endif %}{% endif %}"
    ),
}


def with_template(template):
    lm = build("llama")
    own = type(lm.tokenizer)(tokenizer_object=lm.tokenizer.backend_tokenizer, bos_token="<s>", eos_token="<|end|>")
    own.chat_template = template
    return type(lm)(lm.model, own, lm.name, lm.revision, lm.anatomy)


@pytest.fixture(params=[None, *TEMPLATES])
def templated_lm(request):
    return with_template(TEMPLATES.get(request.param))


def test_prompt_and_answer_ids_join_to_the_chat(family_lm):
    lm = family_lm
    prompt = encode_prompt(lm, QUESTION)
    assert prompt.prompt_len == len(prompt.ids)
    for answer, ids in zip(ANSWERS, encode_answers(lm, QUESTION, ANSWERS), strict=True):
        chat = encode_chat(lm, [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}])
        assert chat.prompt_len == prompt.prompt_len
        assert chat.ids == (*prompt.ids, *ids, end_of_turn(lm))
        # the template's space after the role tag belongs to the answer's first token
        assert lm.tokenizer.decode(ids) == f" {answer}"


def test_answers_under_several_templates(templated_lm):
    lm = templated_lm
    prompt = encode_prompt(lm, QUESTION)
    end = end_of_turn(lm)
    assert lm.tokenizer.convert_ids_to_tokens(end) == "<|end|>"
    for answer, ids in zip(ANSWERS, encode_answers(lm, QUESTION, ANSWERS), strict=True):
        messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}]
        chat = encode_chat(lm, messages)
        assert chat.ids[: chat.prompt_len] == prompt.ids
        assert chat.ids[: len(prompt.ids) + len(ids) + 1] == (*prompt.ids, *ids, end)
        assert lm.tokenizer.decode(ids).strip() == answer
        # independent: the whole conversation tokenised at once by the template itself
        whole = render(lm, messages, generation_prompt=False)
        assert lm.tokenizer.decode(chat.ids) == whole


def test_no_double_bos(family_lm):
    """Also with a tokenizer that puts one in front of whatever it is given."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    inner = type(family_lm.tokenizer.backend_tokenizer).from_str(family_lm.tokenizer.backend_tokenizer.to_str())
    inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    eager = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="<|end|>")
    assert eager("a").input_ids[0] == 1
    for template in (tokenizer().chat_template, None):
        eager.chat_template = template
        lm = type(family_lm)(family_lm.model, eager, "eager", None, family_lm.anatomy)
        encoded = [encode_prompt(lm, QUESTION), encode_text(lm, QUESTION)]
        encoded.append(encode_chat(lm, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]))
        for row in encoded:
            assert row.ids[0] == 1
            assert row.ids.count(1) == 1
        assert all(1 not in ids for ids in encode_answers(lm, QUESTION, ANSWERS))


def test_plain_template_is_used_where_there_is_none():
    lm = with_template(None)
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Bye"},
    ]
    expected = "<s>System: Be brief.\nUser: Hello\nAssistant: Hi<|end|>\nUser: Bye\nAssistant:"
    assert render(lm, conversation, generation_prompt=True) == expected
    assert lm.tokenizer.chat_template is None


def test_text_without_bos_token_gets_none():
    lm = with_template(None)
    lm.tokenizer.bos_token = None
    bare = tuple(lm.tokenizer("The year", add_special_tokens=False).input_ids)
    assert encode_text(lm, "The year") == Encoded(bare, 0)
    assert render(lm, "Hello", generation_prompt=True) == "User: Hello\nAssistant:"


def test_no_system_prompt_is_added_and_dates_stand_still():
    lm = with_template("{{ date_string }}{{ enable_thinking }}{% for m in messages %}{{ m['role'] }}{% endfor %}")
    assert render(lm, "Hello", generation_prompt=True) == "26 Jul 2024Falseuser"


def test_templates_that_rewrite_the_prompt_are_refused():
    lm = with_template("{% for m in messages %}{{ messages | length }}{{ m['content'] }}<|end|>{% endfor %}")
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(AnachronError, match="aren't a prefix"):
        encode_chat(lm, chat)
    with pytest.raises(AnachronError, match="doesn't render an answer as prompt"):
        encode_answers(lm, "a", ["b"])


def test_answers_that_would_merge_with_their_surroundings_are_refused():
    lm = with_template(
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}lark{% endif %}{% endfor %}"
    )
    with pytest.raises(AnachronError, match="merges with what the template writes after it"):
        encode_answers(lm, "The old", ["-Tit"])
    with pytest.raises(AnachronError, match="aren't a prefix"):
        encode_answers(lm, "Bro", ["wn"])


def test_bad_messages_are_refused(lm):
    with pytest.raises(AnachronError, match="empty list of messages"):
        encode_prompt(lm, [])
    with pytest.raises(AnachronError, match="message 1 is"):
        encode_prompt(lm, [{"role": "user", "content": "a"}, {"role": "user", "text": "b"}])
    with pytest.raises(AnachronError, match="last message has role 'user'"):
        encode_chat(lm, [{"role": "user", "content": "a"}])
    for answer in ("", " a", "a\n"):
        with pytest.raises(AnachronError, match="neither start nor end with white space"):
            encode_answers(lm, "a", ["fine", answer])
    assert encode_answers(lm, "a", []) == []


def test_a_template_that_refuses_a_role_says_so():
    lm = with_template("{% for m in messages %}{{ raise_exception('no system role') }}{% endfor %}")
    with pytest.raises(AnachronError, match=r"refuses roles \['user'\] \(no system role\)"):
        encode_prompt(lm, "a")


ROWS = (Encoded((5, 6, 7), 2), Encoded((8,), 1), Encoded((9, 10, 11, 12), 0))


def test_padding_left():
    batch = pad(ROWS, 0, "left")
    assert batch.input_ids.tolist() == [[0, 5, 6, 7], [0, 0, 0, 8], [9, 10, 11, 12]]
    assert batch.attention_mask.tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]]
    assert batch.starts.tolist() == [1, 3, 0]
    assert batch.answer_starts.tolist() == [3, 4, 0]
    assert batch.position_ids.tolist() == [[0, 0, 1, 2], [0, 0, 0, 0], [0, 1, 2, 3]]


def test_padding_right():
    batch = pad(ROWS, 99, "right")
    assert batch.input_ids.tolist() == [[5, 6, 7, 99], [8, 99, 99, 99], [9, 10, 11, 12]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert batch.starts.tolist() == [0, 0, 0]
    assert batch.answer_starts.tolist() == [2, 1, 0]
    assert batch.position_ids[0, :3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_does_not_change_results(family_lm, side):
    lm = family_lm
    rows = [encode_prompt(lm, text) for text in ("Hi", "How many states are there?", QUESTION)]
    batch = pad(rows, lm.pad_id, side)
    with torch.no_grad():
        together = lm.model(**batch.inputs).logits
        for i, row in enumerate(rows):
            alone = lm.model(**pad([row], lm.pad_id).inputs).logits[0]
            torch.testing.assert_close(together[i][batch.attention_mask[i].bool()], alone, atol=1e-4, rtol=1e-4)


def test_bad_padding_is_refused():
    with pytest.raises(AnachronError, match="use left or right"):
        pad(ROWS, 0, "top")
    with pytest.raises(AnachronError, match="no rows"):
        pad([], 0)
    with pytest.raises(AnachronError, match="row 1 has no tokens"):
        pad([ROWS[0], Encoded((), 0)], 0)


@pytest.mark.parametrize("max_tokens", [1, 40, 64, 10_000])
def test_batches_hold_every_row_once_within_the_limit(max_tokens):
    lengths = np.random.default_rng(0).integers(1, 40, size=50)
    rows = [Encoded(tuple(range(i, i + n)), int(n) // 2) for i, n in enumerate(lengths)]
    seen, sizes = [], []
    for indices, batch in batches(rows, -1, max_tokens, "right"):
        seen += indices
        sizes.append(batch.input_ids.numel())
        assert batch.input_ids.numel() <= max_tokens or len(indices) == 1
        for i, ids, mask in zip(indices, batch.input_ids, batch.attention_mask, strict=True):
            assert tuple(ids[mask.bool()].tolist()) == rows[i].ids
    assert sorted(seen) == list(range(50))
    assert [len(rows[i].ids) for i in seen] == sorted(lengths.tolist(), reverse=True)
    assert list(batches([], 0)) == []
