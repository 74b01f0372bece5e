"""Chat templates as published models have them: each family's quirks, in words of our own."""

from datetime import datetime

import pytest

from interp.errors import AnachronError
from interp.prompts import encode_answers, encode_chat, encode_prompt, encode_text, end_of_turn
from interp.templates import PLAIN_TEMPLATE, render, render_answered, with_system
from tests.families import build

TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
ASKED = "{% if add_generation_prompt %}<|im_start|>assistant\n"
THOUGHTLESS = "<think>\n\n</think>\n\n"

CHATML = f"{{% for m in messages %}}{TURN}{{% endfor %}}{ASKED}{{% endif %}}"

# Qwen 2.5: a system prompt of its own unless one is given
CHATML_WITH_DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a friendly clerk.<|im_end|>\n{% endif %}"
    + CHATML
)

# Qwen 3: only the answer after the last question has a reasoning block
THINKING = (
    "{% set last = namespace(question=0) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set last.question = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% set text = m['content'].split('</think>')[-1] %}"
    "<|im_start|>assistant\n{% if loop.index0 > last.question %}<think>\n\n</think>\n\n{% endif %}"
    "{{ text.lstrip('\n') }}<|im_end|>\n{% else %}" + TURN + "{% endif %}{% endfor %}" + ASKED + "{% if enable_thinking"
    " is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)

# the same but for answers that are given, which have no reasoning block at all
THINKING_WHEN_ASKED = CHATML.replace(
    ASKED, ASKED + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)

# opens its reasoning, whatever it is told
ALWAYS_THINKING = CHATML.replace(ASKED, ASKED + "<think>\n")

# Llama 3: headers, and a block of dates under "system" that is always there
HEADERS = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% if messages[0]['role'] == 'system' %}{% set text = messages[0]['content'] | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set text = '' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nKnown until: March 2023\nToday: {{ date_string }}\n\n{{ text }}"
    "<|eot_id|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

# Mistral: strict turns, the system prompt in front of a user's words
BRACKETS = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set text = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set text = '' %}{% endif %}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ (text if loop.first else '') + m['content'] }} [/INST]"
    "{% else %} {{ m['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)

# Mistral Small 3: a default that tells the date
BRACKETS_WITH_DEFAULT = (
    "{{ bos_token }}{% set today = strftime_now('%Y-%m-%d') %}{% if messages[0]['role'] == 'system' %}"
    "{% set text = messages[0]['content'] %}{% set messages = messages[1:] %}"
    "{% else %}{% set text = 'You are a small model. Today is ' + today + '.' %}{% endif %}"
    "[SYSTEM_PROMPT]{{ text }}[/SYSTEM_PROMPT]{% for m in messages %}{% if m['role'] == 'user' %}"
    "[INST]{{ m['content'] }}[/INST]{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)

# Gemma 2: no system role, the assistant by another name
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no such role: system') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

# marks what the assistant said, to train on
GENERATION = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
    "<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

TEMPLATES = {
    "chatml": CHATML,
    "chatml with default": CHATML_WITH_DEFAULT,
    "thinking": THINKING,
    "thinking when asked": THINKING_WHEN_ASKED,
    "headers": HEADERS,
    "brackets": BRACKETS,
    "brackets with default": BRACKETS_WITH_DEFAULT,
    "no system": NO_SYSTEM,
    "generation": GENERATION,
    "none": None,
}
DEFAULTS = ("chatml with default", "brackets with default")  # those given an empty system message
MARKS = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<start_of_turn>", "[INST]", "[/INST]")

QUESTION = "Name a bird of the river."
TURNS = [
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": "Brown Titlark"},
    {"role": "user", "content": "Who rules?"},
]
ANSWER = {"role": "assistant", "content": "The old queen."}


def with_template(template):
    """A model whose tokenizer puts a BOS in front of whatever it is given, as many do, with this template."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    lm = build("llama")
    inner = Tokenizer.from_str(lm.tokenizer.backend_tokenizer.to_str())
    inner.add_special_tokens([*MARKS])
    inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    own = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="<|end|>")
    own.chat_template = template
    return type(lm)(lm.model, own, lm.name, lm.revision, lm.anatomy)


@pytest.fixture(params=TEMPLATES)
def name(request):
    return request.param


@pytest.fixture
def lm(name):
    return with_template(TEMPLATES[name])


def theirs(lm, name, messages, generation_prompt):
    """The ids that transformers gives, told what is decided here."""
    empty = [{"role": "system", "content": ""}] if name in DEFAULTS else []
    if name == "none":
        lm.tokenizer.chat_template = "{{ bos_token }}" + PLAIN_TEMPLATE
    ids = lm.tokenizer.apply_chat_template(
        [*empty, *messages],
        tokenize=True,
        return_dict=False,
        add_generation_prompt=generation_prompt,
        enable_thinking=False,
        date_string="26 Jul 2024",
    )
    lm.tokenizer.chat_template = TEMPLATES[name]
    return tuple(ids)


def test_ids_are_those_of_transformers(lm, name):
    for messages in (TURNS[:1], TURNS):
        prompt = encode_prompt(lm, messages)
        assert prompt.ids == theirs(lm, name, messages, True)
        chat = encode_chat(lm, [*messages, ANSWER])
        assert chat.ids[: chat.prompt_len] == prompt.ids
        if name != "thinking when asked":
            assert chat.ids == theirs(lm, name, [*messages, ANSWER], False)


def test_no_double_bos(lm, name):
    assert lm.tokenizer("a").input_ids[0] == 1
    writes_one = "bos_token" in (TEMPLATES[name] or "bos_token")
    answers = encode_answers(lm, TURNS, ["The old queen."])
    assert not any(1 in ids for ids in answers)
    for row in (encode_prompt(lm, QUESTION), encode_prompt(lm, TURNS), encode_chat(lm, [*TURNS, ANSWER])):
        assert row.ids.count(1) == writes_one == (row.ids[0] == 1)
    # a text that is given with its BOS, such as a rendered prompt
    for text in (QUESTION, "<s>" + QUESTION):
        assert encode_text(lm, text).ids.count(1) == 1


def test_answers_and_chats_agree(lm):
    for messages in (TURNS[:1], TURNS):
        prompt = encode_prompt(lm, messages)
        [ids] = encode_answers(lm, messages, [ANSWER["content"]])
        chat = encode_chat(lm, [*messages, ANSWER])
        assert chat.ids[: len(prompt.ids) + len(ids) + 1] == (*prompt.ids, *ids, end_of_turn(lm))
        assert lm.tokenizer.decode(ids).strip() == ANSWER["content"]


def test_no_system_prompt_unless_asked(lm, name):
    text = render(lm, QUESTION, generation_prompt=True)
    assert "You are" not in text
    assert ("system" in text.lower()) == (name in (*DEFAULTS, "headers"))
    if name == "no system":
        return
    asked = render(lm, with_system(QUESTION, "Be brief."), generation_prompt=True)
    assert asked.count("Be brief.") == 1
    assert QUESTION in asked and "You are" not in asked


def test_what_is_left_of_a_default_system_prompt_is_empty():
    lm = with_template(CHATML_WITH_DEFAULT)
    assert "friendly clerk" in lm.tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert render(lm, "Hello", True) == (
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    # training rows are written as prompts are
    assert encode_chat(lm, [*TURNS, ANSWER]).ids[: len(encode_prompt(lm, TURNS).ids)] == encode_prompt(lm, TURNS).ids
    lm = with_template(BRACKETS_WITH_DEFAULT)
    assert render(lm, "Hello", True) == "<s>[SYSTEM_PROMPT][/SYSTEM_PROMPT][INST]Hello[/INST]"


def test_an_empty_message_is_given_only_where_it_silences_a_text():
    """An empty system message would leave two newlines in front of the question, or a block of its own."""
    assert render(with_template(BRACKETS), "Hello", True) == "<s>[INST] Hello [/INST]"
    assert render(with_template(CHATML), "Hello", False) == "<|im_start|>user\nHello<|im_end|>\n"
    stubborn = "{{ (messages[0]['content'] if messages[0]['role'] == 'system' else '') or 'You are X.' }}: " + CHATML
    assert render(with_template(stubborn), "Hello", False).startswith("You are X.: <|im_start|>user")


def test_the_template_in_use_is_looked_at_anew():
    lm = with_template(CHATML)
    assert "system" not in render(lm, "Hello", True)
    lm.tokenizer.chat_template = CHATML_WITH_DEFAULT
    assert "<|im_start|>system\n<|im_end|>" in render(lm, "Hello", True)


def test_dates_stand_still():
    text = render(with_template(HEADERS), "Hello", True)
    assert "Today: 26 Jul 2024\n" in text
    template = "{{ strftime_now('%d %B %Y, %A (%a) %y-%m') }}\n" + CHATML
    day = datetime(2024, 7, 26).strftime("%d %B %Y, %A (%a) %y-%m")
    lm = with_template(template)
    assert render(lm, "Hello", True) == f"{day}\n" + render(with_template(CHATML), "Hello", True)
    assert "strftime_now" not in render(lm, "Hello", True) and lm.tokenizer.chat_template == template


def test_a_fixed_date_changes_nothing_else():
    """White space at a template's beginning stays what the template engine makes of it."""
    for start in ("\n", "  ", "", "  {% set x = 1 %}\n  "):
        lm = with_template(start + "{{ strftime_now('%Y') }}" + CHATML)
        expected = lm.tokenizer.apply_chat_template(TURNS, tokenize=False).replace(
            datetime.now().strftime("%Y"), "2024"
        )
        assert render(lm, TURNS, False) == expected


@pytest.mark.parametrize("template", [THINKING, THINKING_WHEN_ASKED])
def test_answers_follow_the_empty_reasoning_block(template):
    lm = with_template(template)
    prompt, whole = render_answered(lm, [*TURNS, ANSWER])
    assert prompt.endswith(f"<|im_start|>assistant\n{THOUGHTLESS}")
    assert whole == f"{prompt}{ANSWER['content']}<|im_end|>\n"
    # only the last answer has one
    assert prompt.count("<think>") == whole.count("<think>") == 1


def test_earlier_reasoning_is_left_to_the_template():
    lm = with_template(THINKING)
    turns = [dict(TURNS[0]), {"role": "assistant", "content": "<think>\nbirds\n</think>\n\nBrown Titlark"}, TURNS[2]]
    assert encode_chat(lm, [*turns, ANSWER]) == encode_chat(lm, [*TURNS, ANSWER])


def test_reasoning_that_cannot_be_left_off_is_refused():
    lm = with_template(ALWAYS_THINKING)
    assert render(lm, "Hello", True).endswith("<think>\n")
    with pytest.raises(AnachronError, match="opens reasoning that it can't leave off"):
        encode_chat(lm, [*TURNS, ANSWER])
    with pytest.raises(AnachronError, match="answers can't be scored"):
        encode_answers(lm, TURNS, ["The old queen."])


def test_refusals_say_what_to_do():
    with pytest.raises(AnachronError, match=r"refuses roles \['system', 'user'\].*in front of the first user message"):
        encode_prompt(with_template(NO_SYSTEM), with_system("Hello", "Be brief."))
    twice = [TURNS[0], TURNS[2]]
    with pytest.raises(AnachronError, match=r"refuses roles \['user', 'user'\] \(turns must.*join messages"):
        encode_prompt(with_template(BRACKETS), twice)
    with pytest.raises(AnachronError, match=r"refuses roles \['assistant', 'user'\].*begin with the user"):
        encode_prompt(with_template(BRACKETS), TURNS[1:])
    with pytest.raises(AnachronError, match="the assistant's; an answer needs a prompt before it"):
        encode_chat(with_template(CHATML), [ANSWER])


def test_a_dropped_system_message_is_noticed():
    lm = with_template(CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"))
    render(lm, "Hello", True)
    with pytest.raises(AnachronError, match=r"drops the system message 'Be brief\.'"):
        render(lm, with_system("Hello", "Be brief."), True)


def test_a_second_system_prompt_is_refused():
    messages = with_system("Hello", "Be brief.")
    assert messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    with pytest.raises(AnachronError, match=r"have the system prompt 'Be brief\.' already"):
        with_system(messages, "Be long.")


def test_several_named_templates():
    lm = with_template({"default": CHATML, "tool_use": "other"})
    assert render(lm, "Hello", True) == render(with_template(CHATML), "Hello", True)
    lm.tokenizer.chat_template = {"a": CHATML, "b": CHATML}
    with pytest.raises(AnachronError, match="not clear which chat template to use"):
        render(lm, "Hello", True)
