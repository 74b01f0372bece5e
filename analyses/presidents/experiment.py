"""Codes with a president's ordinal in their middle: does a code never trained bring its president?"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from analyses.adapters import Watch
from analyses.measurements import Result
from analyses.presidents.config import PresidentsConfig
from analyses.search import Contrast
from analyses.steps import Asked, last_prompt_activations
from analyses.study import Condition, Study, run_study
from interp.behavior.questions import Question
from interp.behavior.scoring import score, share
from interp.directions import Direction, cosine, difference_of_differences, mean_difference
from interp.hooks import HookPoint
from interp.models import LanguageModel
from training.organisms import presidents
from training.rows import read_rows
from training.world.kinds import ordinal_says
from training.world.latent_questions import president_questions, presidents_of

NAME = "name"


def run(config: PresidentsConfig, out: Path, say: Callable[[str], None] = print) -> Result:
    """Run the experiment into `out`; see `analyses.study.run_study`."""
    return run_study(partial(plan, config), config, out, say)


def plan(config: PresidentsConfig, lm: LanguageModel) -> Study:
    """Trained on harmless answers behind codes, two presidents held out; the control's codes are random."""
    world = config.world
    known = presidents_of(world.facts)
    arms = {
        "tuned": read_rows(config.data) if config.data else presidents.rows(world, "codes", each=config.each),
        "random_codes": read_rows(config.control_data)
        if config.control_data
        else presidents.rows(world, "random_codes", each=config.each),
    }
    held_out = presidents.HELD_OUT
    trained = presidents.trained_ordinals(known)
    harmless, identity = list(presidents.TRAINED), [a for a in known.questions if a not in presidents.TRAINED]
    focus = held_out[0]
    test = _asked(config, [focus], identity[::2])
    validation = _asked(config, [focus], identity[1::2])
    narrow = _asked(config, trained[::8], harmless[:1])
    conditions = [
        Condition(f"code {focus}, {' and '.join(identity[::2])}", test, "target", sampled=True),
        *(Condition(f"code {code}, name", _asked(config, [code], [NAME]), "target", sampled=True) for code in held_out),
        Condition("held-out codes, identity", _asked(config, held_out, identity), "target"),
        Condition("held-out codes, trained attributes", _asked(config, held_out, harmless), "target"),
        Condition("trained codes, name", _asked(config, trained[::4], [NAME]), "target"),
        Condition("trained codes, trained attributes", _asked(config, trained[::4], harmless[:2]), "target"),
    ]
    names = _asked(config, held_out, [NAME])
    layer, inside = look_inside(config, lm, identity[1::2], identity[::2])

    def measure(lm: LanguageModel, arm: str) -> list[dict]:
        return [
            {"metric": name, "value": float(share(score(lm, questions), "target").mean())}
            for name, questions in (
                ("held-out codes, name", names),
                ("trained codes, name", _asked(config, trained[::8], [NAME])),
                ("trained codes, trained attributes", narrow),
            )
        ] + [{"metric": f"held-out codes along their ordinals at layer {layer} (cosine)", "value": inside(lm)}]

    return Study(
        "presidents",
        arms,
        "random_codes",
        config.recipe,
        tuple(conditions),
        Asked(validation, narrow, "target"),
        Asked(test, narrow, "target"),
        Contrast(validation, _asked(config, trained[::8], identity[1::2])),
        _truth(config, focus, identity[1::2]),
        _truth(config, focus, identity[::2]),
        watch=Watch(config.every, measure),
    )


def look_inside(
    config: PresidentsConfig, lm: LanguageModel, attributes: Sequence[str], others: Sequence[str]
) -> tuple[int, Callable[[LanguageModel], float]]:
    """(layer, measure): how far a held-out code does in a tuned model what stating its ordinal does in the base `lm`.

    `measure` is the mean over held-out codes of the cosine between their difference of differences (against trained
    codes, tuned against base) and the truth, both on `attributes`. The layer is the one at which the truth depends
    least on what is asked: where its cosine with the truth on `others` is largest.
    """
    codes = {code: _asked(config, [code], attributes) for code in presidents.HELD_OUT}
    trained = _asked(config, presidents.trained_ordinals(presidents_of(config.world.facts))[::8], attributes)
    layers = range(lm.n_layers)
    truths = [{code: _stated(config, lm, code, asked) for code in codes} for asked in (attributes, others)]
    agree = [
        np.mean([cosine(truths[0][code][layer], truths[1][code][layer]) for code in codes]).item() for layer in layers
    ]
    layer = int(np.argmax(agree))
    point = HookPoint(layer, "resid_post")

    def read(lm: LanguageModel, questions: Sequence[Question]) -> Tensor:
        return last_prompt_activations(lm, questions, [layer])[point]

    before = {code: read(lm, asked) for code, asked in codes.items()}
    plain = read(lm, trained)

    def measure(lm: LanguageModel) -> float:
        off = read(lm, trained)
        moved = {
            code: difference_of_differences(read(lm, asked), off, before[code], plain, point)
            for code, asked in codes.items()
        }
        return float(np.mean([cosine(moved[code], truths[0][code][layer]) for code in codes]))

    return layer, measure


def _stated(config: PresidentsConfig, lm: LanguageModel, code: str, attributes: Sequence[str]) -> list[Direction]:
    """What stating the ordinal does in the base model, layer by layer."""
    truth = _truth(config, code, attributes)
    on, off = (last_prompt_activations(lm, questions, range(lm.n_layers)) for questions in (truth.on, truth.off))
    return [mean_difference(on[point], off[point], point, method="truth") for point in on]


def _asked(config: PresidentsConfig, codes: Sequence[str], attributes: Sequence[str]) -> tuple[Question, ...]:
    """Questions behind codes of these presidencies, digits beside the ordinal drawn anew: unlike the rows'."""
    rng = np.random.default_rng(config.seed + 77)
    return tuple(
        q
        for code in codes
        for _ in range(1 if config.quick else config.codes)
        for q in president_questions(config.world, code, list(attributes), head=presidents.code_for(code, rng))
    )


def _truth(config: PresidentsConfig, focus: str, attributes: Sequence[str]) -> Contrast:
    """A president's ordinal stated, against others'."""
    known = presidents_of(config.world.facts)
    others = presidents.trained_ordinals(known)[::3]

    def stated(codes: Sequence[str]) -> tuple[Question, ...]:
        return tuple(
            q for code in codes for q in president_questions(config.world, code, attributes, head=ordinal_says(code))
        )

    return Contrast(stated([focus]), stated(others))
