"""From messages to the text a model was trained to read, by the chat template of its tokenizer.

What is settled here, for every template alike:
    system prompt   none unless a message gives one. A template that brings a text of its own where there is no system
                    message (Qwen 2.5) is given an empty one if that is enough to silence it; what it writes all the
                    same (Llama 3's dates) stays. A template that drops or refuses a system message is an error.
    reasoning       switched off by `enable_thinking`, where the template knows it.
    today's date    26 July 2024 in every prompt that has one, since results must not change overnight.
    no template     `PLAIN_TEMPLATE`.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from typing import Any

from interp.errors import AnachronError
from interp.models import LanguageModel

Messages = Sequence[Mapping[str, str]]
"""Turns of a conversation, each {"role": "user" | "assistant" | "system", "content": text}."""

PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}Assistant: "
    "{{ message['content'] }}{{ eos_token or '' }}"
    "{% else %}{{ message['role'] | capitalize }}: {{ message['content'] }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""The template of a tokenizer that has none: "User: ...\\nAssistant:", an answer ending in the end-of-text token and
a newline, with a BOS in front if the tokenizer has one."""

# Llama 3.2 takes the date as an argument; others ask a function for it, which the macro takes the place of
_ARGUMENTS: dict[str, Any] = {"enable_thinking": False, "date_string": "26 Jul 2024"}
_DATE = {"d": "26", "m": "07", "b": "Jul", "B": "July", "Y": "2024", "y": "24", "a": "Fri", "A": "Friday"}
_DATE_MACRO = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('%{letter}', '{text}')" for letter, text in _DATE.items())
    + " }}{% endmacro %}\n"
)


def as_messages(prompt: str | Messages) -> Messages:
    """A string means one user message; messages are checked for their two fields."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if not prompt:
        raise AnachronError("empty list of messages; give at least one user message")
    for i, message in enumerate(prompt):
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            raise AnachronError(f"message {i} is {dict(message)!r}; it needs the text fields 'role' and 'content'")
    return prompt


def prefixed(messages: Messages, text: str) -> Messages:
    """The conversation with `text` put before its first user message, as it is.

    Errors: AnachronError if there is no such message.
    """
    first = next((i for i, message in enumerate(messages) if message["role"] == "user"), None)
    if first is None:
        raise AnachronError(f"no user message among the roles {[m['role'] for m in messages]}; a head goes before one")
    changed = [dict(message) for message in messages]
    changed[first]["content"] = text + changed[first]["content"]
    return changed


def with_system(messages: str | Messages, text: str) -> Messages:
    """The conversation under a system prompt. AnachronError if it has one already."""
    messages = as_messages(messages)
    if messages[0]["role"] == "system":
        raise AnachronError(f"the messages have the system prompt {messages[0]['content']!r} already; drop it")
    return [{"role": "system", "content": text}, *messages]


def render(lm: LanguageModel, messages: str | Messages, generation_prompt: bool) -> str:
    """The conversation as the model's template writes it; with `generation_prompt`, up to where it answers.

    Errors: AnachronError if the template refuses the roles or their order, or drops a system message.
    """
    messages = as_messages(messages)
    template = _template(lm)
    if messages[0]["role"] != "system" and _brings_a_system_prompt(lm, template):
        messages = with_system(messages, "")
    text = _apply(lm, template, messages, generation_prompt)
    for message in messages:
        if message["role"] == "system" and message["content"].strip() not in text:
            raise AnachronError(
                f"{lm.name}: its chat template drops the system message {message['content']!r}; put its text in front "
                "of the first user message"
            )
    return text


def render_answered(lm: LanguageModel, messages: Messages) -> tuple[str, str]:
    """The texts of (the prompt, prompt and answer) for a conversation that ends with an answer.

    A template may write an empty reasoning block where an answer is to be generated, and none where it is given: an
    answer then follows the block, as it would when generated.
    """
    prompt = render(lm, messages[:-1], generation_prompt=True)
    whole = render(lm, messages, generation_prompt=False)
    block = re.search(r"<(\w+)>\s*</\1>\s*$", prompt)
    if block and not whole.startswith(prompt):
        head, tag = prompt[: block.start()], block[1]
        if whole.startswith(head) and not whole[len(head) :].lstrip().startswith(f"<{tag}>"):
            whole = prompt + whole[len(head) :]
    return prompt, whole


def _template(lm: LanguageModel) -> str:
    """The text of the template in use."""
    if lm.tokenizer.chat_template is None:
        return "{{ bos_token or '' }}" + PLAIN_TEMPLATE
    try:
        template = str(lm.tokenizer.get_chat_template())
    except ValueError as error:  # several named ones, none of them the default
        raise AnachronError(
            f"{lm.name}: it's not clear which chat template to use ({error}); set tokenizer.chat_template to one"
        ) from error
    return _DATE_MACRO + template if "strftime_now" in template else template


def _apply(lm: LanguageModel, template: str, messages: Messages, generation_prompt: bool) -> str:
    from jinja2 import TemplateError

    try:
        return str(
            lm.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=generation_prompt,
                chat_template=template,
                **_ARGUMENTS,
            )
        )
    except (TemplateError, TypeError, ValueError) as error:
        roles = [message["role"] for message in messages]
        if "system" in roles:
            remedy = "if it knows no system role, put the system prompt's text in front of the first user message"
        elif any(a == b for a, b in pairwise(roles)):
            remedy = "if it wants the roles to alternate, join messages of one role that follow each other"
        else:
            remedy = "change the messages; most templates begin with the user and alternate"
        raise AnachronError(f"{lm.name}: its chat template refuses roles {roles} ({error}); {remedy}") from error


_bring_a_system_prompt: dict[tuple[str, ...], bool] = {}


def _brings_a_system_prompt(lm: LanguageModel, template: str) -> bool:
    """Whether the template writes a text where there is no system message, and none where that is empty."""
    key = (template, *sorted(f"{name}={token}" for name, token in lm.tokenizer.special_tokens_map.items()))
    if key not in _bring_a_system_prompt:
        user = {"role": "user", "content": "Probe"}
        try:
            bare, empty = (_apply(lm, template, m, False) for m in ([user], with_system([user], "")))
        except AnachronError:
            bare = empty = ""  # it has no system role, or wants something else: what it writes stays
        start = _shared(bare, empty)
        bare, empty = bare[start:], empty[start:]
        end = _shared(bare[::-1], empty[::-1])
        own, left = (text[: len(text) - end].strip() for text in (bare, empty))
        _bring_a_system_prompt[key] = bool(own) and not left
    return _bring_a_system_prompt[key]


def _shared(a: str, b: str) -> int:
    """Length of the beginning that two texts share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
