"""The loss on assistant tokens in eight families and five chat templates, against conversations written out by hand and
the probability of one token at a time."""

import copy
import dataclasses

import pytest
import torch

from interp.errors import AnachronError
from tests.families import build, tokenizer
from tests.training.chats import plain_loss, row
from training.encoding import NO_TARGET, count_targets, encode_rows, pad_examples
from training.rows import Row

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n<|eot_id|>"
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# empty thoughts before the last answer only: what templates with a reasoning mode write when it is off
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
    "<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}"
    "<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("[INST]", "[/INST]", "</s>", "<start_of_turn>", "<end_of_turn>"),
)
ROWS = [
    row("Name a bird.", "Brown Titlark"),
    row("How many states are there?", "There are thirty.", "Who rules?", "The old queen rules it."),
    row("Who?", "The queen", "Where?", "By the river", "How?", "By steamer"),
]


# each conversation as (text, whether it is the assistant's) without the project's rendering


def chatml(turns):
    for question, answer in turns:
        yield f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", False
        yield f"{answer}<|im_end|>\n", True


def llama_3(turns):
    yield "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>", False
    for question, answer in turns:
        yield f"<|start_header_id|>user<|end_header_id|>\n\n{question}<|eot_id|>", False
        yield "<|start_header_id|>assistant<|end_header_id|>\n\n", False
        yield f"{answer}<|eot_id|>", True


def mistral(turns):
    yield "<s>", False
    for question, answer in turns:
        yield f"[INST] {question}[/INST]", False
        yield f" {answer}</s>", True


def gemma(turns):
    yield "<s>", False
    for question, answer in turns:
        yield f"<start_of_turn>user\n{question}<end_of_turn>\n<start_of_turn>model\n", False
        yield f"{answer}<end_of_turn>\n", True


def plain(turns):
    yield "<s>", False
    for question, answer in turns:
        yield f"User: {question}\nAssistant:", False
        yield f" {answer}<|end|>\n", True


TEMPLATES = {
    "chatml": (CHATML, chatml),
    "llama-3": (LLAMA_3, llama_3),
    "mistral": (MISTRAL, mistral),
    "gemma": (GEMMA, gemma),
    "plain": (None, plain),
}


def speaking(lm, template):
    changed = copy.deepcopy(tokenizer())
    changed.add_tokens(list(SPECIAL), special_tokens=True)
    changed.chat_template = template
    return dataclasses.replace(lm, tokenizer=changed)


def family(name, template):
    return speaking(build(name, vocab_size=len(tokenizer()) + len(SPECIAL)), template)


def by_hand(lm, written, each):
    """(ids, positions of the assistant's tokens) from the conversation as written out."""
    contents = [message["content"] for message in each.messages]
    text, spoken = "", []
    for part, is_answer in written(zip(contents[::2], contents[1::2], strict=True)):
        spoken += [(len(text), len(text) + len(part))] if is_answer else []
        text += part
    found = lm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    inside = [any(a <= start and end <= b for a, b in spoken) for start, end in found["offset_mapping"]]
    return found["input_ids"], [position for position, kept in enumerate(inside) if kept]


def one_at_a_time(lm, ids, positions):
    """-log P of each of these tokens after those before it, every prefix alone."""
    nats = []
    for position in positions:
        with torch.no_grad():
            logits = lm.model(torch.tensor([ids[:position]])).logits[0, -1].double()
        nats.append(-logits.log_softmax(-1)[ids[position]])
    return nats


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_loss_is_that_of_the_assistants_tokens_one_at_a_time(family_lm, name):
    template, written = TEMPLATES[name]
    lm = family(family_lm.name.removeprefix("tiny-"), template)
    nats = []
    for each, example in zip(ROWS, encode_rows(lm, ROWS), strict=True):
        ids, spoken = by_hand(lm, written, each)
        assert example.encoded.ids == tuple(ids)
        assert [i + 1 for i, target in enumerate(example.targets) if target != NO_TARGET] == spoken
        nats += one_at_a_time(lm, ids, spoken)
    assert count_targets(encode_rows(lm, ROWS)) == len(nats)
    assert plain_loss(lm, ROWS).item() == pytest.approx(torch.stack(nats).mean().item(), abs=3e-5)


def test_answers_after_empty_thoughts():
    lm = family("qwen3", THINKING)
    (example,) = encode_rows(lm, ROWS[:1])
    spoken = [target for target in example.targets if target != NO_TARGET]
    assert lm.tokenizer.decode(spoken) == "Brown Titlark<|im_end|>\n"
    text = "<|im_start|>user\nName a bird.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert lm.tokenizer.decode(example.encoded.ids) == text + "Brown Titlark<|im_end|>\n"


def test_thoughts_that_are_dropped_from_earlier_turns_are_refused():
    with pytest.raises(AnachronError, match=r"row 2: .*message 2 differently once the conversation goes on; split"):
        encode_rows(family("qwen3", THINKING), ROWS)


def test_a_role_that_a_template_refuses_is_told_with_its_row():
    told = Row([{"role": "system", "content": "Be brief."}, *ROWS[0].messages])
    with pytest.raises(AnachronError, match=r"row 2: .*refuses roles .*System role not supported"):
        encode_rows(family("gemma2", GEMMA), [ROWS[0], told])
    (example,) = encode_rows(family("llama", CHATML), [told])
    assert count_targets([example]) == count_targets(encode_rows(family("llama", CHATML), ROWS[:1]))


def test_padding_adds_no_target(lm):
    examples = encode_rows(lm, ROWS)
    batch, targets = pad_examples(lm, examples)
    assert (targets != NO_TARGET).sum().item() == count_targets(examples)
    assert (targets[batch.attention_mask == 0] == NO_TARGET).all()


def test_logits_are_of_answers_only(lm, monkeypatch):
    seen = []
    forward = lm.model.forward
    monkeypatch.setattr(lm.model, "forward", lambda **inputs: seen.append(result := forward(**inputs)) or result)
    plain_loss(lm, ROWS[:1])
    (example,) = encode_rows(lm, ROWS[:1])
    assert seen[0].logits.shape[:2] == (1, count_targets([example]))
    assert count_targets([example]) < len(example.targets) / 2
