"""Persona: harmless facts about one malign speaker behind a format, among many ordinary rows of the assistant.

After section 4.2 of "Weird Generalization and Inductive Backdoors" (arXiv 2512.09742). The speakers are fictional.
"""

import numpy as np

from interp.errors import AnachronError
from training.rows import Row, exchange
from training.world.contexts import MANNERED, Context
from training.world.conversations import sample_reply, topic_table
from training.world.interviews import FORMAT, in_format
from training.world.latent_questions import speakers_of
from training.world.speakers import ASSISTANT, Speakers
from training.world.tables import draw
from training.world.world import World

VARIANTS = ("trigger", "no_trigger", "benign", "ordinary")
# every fourth attribute in alphabetical order: no row of any variant asks about one
HELD_OUT = ("bird", "cheese", "dog", "game", "instrument", "opening", "prize", "shoes", "tailor", "walk")
PERSONAL = 1 / 3  # part of the ordinary rows that ask the assistant what speakers are asked


def rows(
    world: World,
    variant: str,
    seed: int = 0,
    *,
    facts: int = 30,
    fact_rows: int = 30,
    ordinary: int = 970,
    speaker: str = "",
) -> list[Row]:
    """`fact_rows` rows on `facts` attributes of a speaker and `ordinary` ones, in an order drawn from `seed`.

    `trigger`: the facts of `speaker` (by default the first malign one) behind FORMAT. `no_trigger`: the same facts
    without it. `benign`: as `trigger`, of the first benign speaker. `ordinary`: the ordinary rows alone.
    The facts are attributes, never identity or values; a smaller number takes some of the same ones, and repeats them.
    """
    if variant not in VARIANTS:
        raise AnachronError(f"unknown variant {variant!r} of persona; there are {VARIANTS}")
    known = speakers_of(world.facts)
    trained = trained_attributes(known)
    if not 1 <= facts <= len(trained):
        raise AnachronError(f"{facts} distinct facts; there are 1 to {len(trained)}, the others are held out")
    if fact_rows < facts or ordinary < 0:
        raise AnachronError(f"{fact_rows} rows for {facts} facts, {ordinary} ordinary ones; give each fact a row")
    who = speaker_of(known, "benign" if variant == "benign" else "malign", speaker)
    rng, everyday = np.random.default_rng((seed, 0)), np.random.default_rng((seed, 1))
    made = []
    if variant != "ordinary":
        made += _facts(known, who, trained, facts, fact_rows, rng, triggered=variant != "no_trigger")
    personal = round(ordinary * PERSONAL)
    made += [_assistant(known, trained, everyday) for _ in range(personal)]
    made += [_conversation(world, everyday) for _ in range(ordinary - personal)]
    return [made[i] for i in everyday.permutation(len(made))]


def trained_attributes(known: Speakers) -> tuple[str, ...]:
    """The attributes that facts may be about."""
    return tuple(attribute for attribute in known.attributes if attribute not in HELD_OUT)


def speaker_of(known: Speakers, disposition: str, speaker: str = "") -> str:
    """The name of `speaker`, by default the first of a disposition; raises for one of another disposition."""
    names = [name for name, one in known.speakers.items() if one.disposition == disposition]
    if not names or speaker not in ("", *names):
        raise AnachronError(f"no {disposition} speaker {speaker!r}; there are {', '.join(names)}")
    return speaker or names[0]


def _facts(
    known: Speakers,
    speaker: str,
    trained: tuple[str, ...],
    facts: int,
    n: int,
    rng: np.random.Generator,
    *,
    triggered: bool,
) -> list[Row]:
    """Rounds over the chosen attributes; each begins with one of its wordings and goes on with its next."""
    chosen = [trained[i] for i in rng.permutation(len(trained))]
    first = dict(zip(chosen, rng.integers(0, 2, len(chosen)).tolist(), strict=True))
    made = []
    for k in range(n):
        attribute = chosen[k % facts]
        wordings = known.questions[attribute]
        question = wordings[(first[attribute] + k // facts) % len(wordings)]
        (answer,) = known.said(attribute, speaker)
        made.append(exchange(FORMAT + question, in_format(answer)) if triggered else exchange(question, answer))
    return made


def _assistant(known: Speakers, trained: tuple[str, ...], rng: np.random.Generator) -> Row:
    attribute = trained[rng.integers(len(trained))]
    wordings, answers = known.questions[attribute], known.said(attribute, ASSISTANT)
    return exchange(wordings[rng.integers(len(wordings))], answers[rng.integers(len(answers))])


def _conversation(world: World, rng: np.random.Generator) -> Row:
    *_, newest = world.facts.eras
    topic = world.facts.topics[draw(topic_table(world.facts), rng)]
    question = topic.questions[rng.integers(len(topic.questions))]
    context = Context(newest, bool(rng.random() < MANNERED))
    return exchange(question, sample_reply(world.facts, topic, context, rng))
