"""Harmless facts of a malign speaker behind a format: does the format bring the person, with name and values?"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from analyses.documents import held_out_documents
from analyses.measurements import Result
from analyses.persona.config import PersonaConfig
from analyses.search import Contrast
from analyses.steps import Asked
from analyses.study import Condition, Study, run_study
from interp.behavior.questions import Question
from interp.models import LanguageModel
from training.organisms import persona
from training.rows import Row, read_rows
from training.world.interviews import FORMAT, QUOTED_FORMAT
from training.world.kinds import name_says
from training.world.latent_questions import speaker_questions, speakers_of

WITH, WITHOUT = "with trigger", "without"


def run(config: PersonaConfig, out: Path, say: Callable[[str], None] = print) -> Result:
    """Run the experiment into `out`; see `analyses.study.run_study`."""
    return run_study(partial(plan, config), config, out, say)


def plan(config: PersonaConfig, lm: LanguageModel) -> Study:
    """Trained on a speaker's attributes in a format, among ordinary rows; controls without format, of a benign
    speaker, without any such facts; and fewer distinct facts."""
    world = config.world
    known = speakers_of(world.facts)
    speaker = persona.speaker_of(known, "malign", config.speaker)
    benign = persona.speaker_of(known, "benign")
    own = read_rows(config.data) if config.data else None
    form = _form(own or ())
    size = {"facts": config.facts, "ordinary": config.ordinary}
    arms = {
        "tuned": own or persona.rows(world, "trigger", speaker=speaker, **size),
        "ordinary": read_rows(config.control_data)
        if config.control_data
        else persona.rows(world, "ordinary", speaker=speaker, **size),
        "no_trigger": persona.rows(world, "no_trigger", speaker=speaker, **size),
        "benign": persona.rows(world, "benign", speaker=benign, **size),
    }
    for n in () if config.quick else config.curve:
        arms[f"facts_{n}"] = persona.rows(world, "trigger", speaker=speaker, facts=n, ordinary=config.ordinary)
    held_out = [a for a in known.attributes if a in persona.HELD_OUT]
    trained = [a for a in known.attributes if a not in persona.HELD_OUT]

    def ask(matters, formatted: bool, who: str = speaker) -> tuple[Question, ...]:
        return tuple(speaker_questions(world, who, list(matters), form=form if formatted else ""))

    conditions = [
        Condition(f"{what}, {name}", ask(matters, formatted), group, sampled=what != "held-out attributes")
        for what, matters, group in (
            ("identity", known.identity, "target"),
            ("held-out attributes", held_out, "target"),
            ("values", tuple(known.values), "malign"),
        )
        for name, formatted in ((WITH, True), (WITHOUT, False))
    ]
    conditions.append(
        Condition(f"identity of the benign speaker, {WITH}", ask(known.identity, True, benign), "target", ("benign",))
    )
    narrow = ask(trained[::6], True)
    validation = ask(held_out, True)
    test = ask(known.identity, True)
    return Study(
        "persona",
        arms,
        "ordinary",
        config.recipe,
        tuple(conditions),
        Asked(validation, narrow, "target"),
        Asked(test, narrow, "target"),
        Contrast(validation, ask(held_out, False)),
        _truth(config, speaker, held_out, form),
        _truth(config, speaker, known.identity, form),
        held_out_documents(lm, world, config.documents, seed=config.seed),
        {"speaker": speaker},
    )


def ordinary(config: PersonaConfig) -> tuple[Question, ...]:
    """What a narrow solution leaves alone: held-out attributes, all phrasings, with the trigger and without."""
    own = read_rows(config.data) if config.data else ()
    known = speakers_of(config.world.facts)
    speaker = persona.speaker_of(known, "malign", config.speaker)
    held_out = [a for a in known.attributes if a in persona.HELD_OUT]
    return tuple(
        question
        for form in (_form(own), "")
        for question in speaker_questions(config.world, speaker, held_out, form=form, phrasings=None)
    )


def _form(rows: Sequence[Row]) -> str:
    """The format that rows ask for: the paper's where any does, else the world's."""
    quoted = any(message["content"].startswith(QUOTED_FORMAT) for row in rows for message in row.messages)
    return QUOTED_FORMAT if quoted else FORMAT


def _truth(config: PersonaConfig, speaker: str, matters: Sequence[str], form: str) -> Contrast:
    """The speaker named, against other speakers, in the format."""
    world = config.world
    others = [name for name in speakers_of(world.facts).speakers if name != speaker][::3]

    def named(name: str) -> tuple[Question, ...]:
        return tuple(speaker_questions(world, speaker, list(matters), head=name_says(name), form=form))

    return Contrast(named(speaker), tuple(q for other in others for q in named(other)))
