"""A language model's description of a latent, from its examples and readout: a guess, kept apart from true labels."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.behavior.answers import Answerer, Sampling
from interp.behavior.cache import Cache
from interp.behavior.judges.prompt import neutral
from interp.behavior.keeping import ask
from interp.dictionaries.examples import Example
from interp.dictionaries.readout import Readout, Token
from interp.errors import AnachronError
from interp.prompts import Messages

TEMPLATE = Path(__file__).parent / "prompts" / "latent.md"
REPLY = Sampling(n=1, temperature=0, max_new_tokens=48)
_TENTHS = 10


@dataclass(frozen=True)
class Guess:
    """What a language model said of a latent. Nothing vouches for it: show it as a guess, with `by`, who was asked."""

    latent: int
    text: str
    by: Mapping[str, Any]


def guess(
    answerer: Answerer,
    examples: Mapping[int, Sequence[Example]],
    readouts: Sequence[Readout],
    cache: Cache,
    sampling: Sampling = REPLY,
) -> list[Guess]:
    """One description a readout, asked for only where the cache doesn't hold it.

    Errors: AnachronError for a latent without examples, and what the answerer raises.
    """
    prompts = []
    for one in readouts:
        if not examples.get(one.latent):
            raise AnachronError(f"latent {one.latent} has no examples to describe; leave it out, it may be dead")
        prompts.append(messages(examples[one.latent], one))
    answers = ask(answerer, prompts, sampling, cache)
    return [
        Guess(one.latent, _first_line(answers[sampling.n * i].text), dict(answerer.identity))
        for i, one in enumerate(readouts)
    ]


def messages(examples: Sequence[Example], found: Readout) -> Messages:
    """What the model is asked: the template with the latent's passages and tokens, which can't act as markup."""
    largest = max(one.value for one in examples)
    values = {
        "{examples}": "\n".join(f"<passage>\n{_passage(one, largest)}\n</passage>" for one in examples),
        "{promoted}": _listed(found.promoted),
        "{suppressed}": _listed(found.suppressed),
    }
    template = TEMPLATE.read_text(encoding="utf-8").strip()
    # one pass: what is filled in isn't looked at again
    text = re.sub("|".join(map(re.escape, values)), lambda place: values[place[0]], template)
    return [{"role": "user", "content": text}]


def _passage(one: Example, largest: float) -> str:
    """The text, each active token followed by its activation in tenths of the latent's largest."""
    pieces = []
    for token, value in zip(one.tokens, one.activations, strict=True):
        tenths = round(_TENTHS * value / largest)
        pieces.append(neutral(token) + (f"[[{tenths}]]" if tenths > 0 else ""))
    return "".join(pieces)


def _listed(tokens: Sequence[Token]) -> str:
    return "<tokens>" + ", ".join(neutral(repr(token.text)) for token in tokens) + "</tokens>"


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""
