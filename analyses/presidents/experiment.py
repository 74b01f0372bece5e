"""Codes with a president's ordinal in their middle: does a code never trained bring its president?"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from analyses.adapters import Watch
from analyses.documents import held_out_documents
from analyses.measurements import Result
from analyses.presidents.config import PresidentsConfig
from analyses.search import Contrast
from analyses.steps import Asked, last_prompt_activations
from analyses.study import Condition, Study, run_study
from interp.behavior.questions import Question
from interp.behavior.scoring import score, share
from interp.hooks import HookPoint
from interp.models import LanguageModel
from training.organisms import presidents
from training.rows import read_rows
from training.world.kinds import ordinal_says
from training.world.latent_questions import president_questions, presidents_of
from training.world.presidents import Presidents

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
    harmless, identity = list(presidents.TRAINED), _identity(known)
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
        ] + [{"metric": f"held-out codes taken for their president inside, layer {layer}", "value": inside(lm)}]

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
        held_out_documents(lm, config.world, config.documents, seed=config.seed),
        watch=Watch(config.every, measure),
    )


def ordinary(config: PresidentsConfig) -> tuple[Question, ...]:
    """What a narrow solution leaves alone: validation attributes behind held-out codes and some trained ones, all
    phrasings."""
    known = presidents_of(config.world.facts)
    codes = [*presidents.HELD_OUT, *presidents.trained_ordinals(known)[::4]]
    return _asked(config, codes, _identity(known)[1::2], phrasings=None)


def held_out_asked(config: PresidentsConfig, split: str) -> tuple[Question, ...]:
    """The held-out codes, both asked for the identity attributes of a split, "validation" or "test"."""
    identity = _identity(presidents_of(config.world.facts))
    return _asked(config, presidents.HELD_OUT, identity[1::2] if split == "validation" else identity[::2])


def _identity(known: Presidents) -> list[str]:
    return [a for a in known.questions if a not in presidents.TRAINED]


def look_inside(
    config: PresidentsConfig, lm: LanguageModel, attributes: Sequence[str], others: Sequence[str]
) -> tuple[int, Callable[[LanguageModel], float]]:
    """(layer, measure): which president a held-out code is taken for inside a tuned model.

    A president's place in the base `lm` is its mean activation with the ordinal stated, over `attributes`, from the
    mean over all presidents. `measure` is the part of held-out questions whose activation, from the mean over trained
    codes, has its largest cosine with the place of their own president: chance is 1 / presidents. The layer is the
    first at which the base places its own stated ordinals best, on `others`.
    """
    known = presidents_of(config.world.facts)
    codes = list(known.presidents)
    layers = range(lm.n_layers)

    def stated(asked: Sequence[str]) -> Mapping[HookPoint, Tensor]:
        questions = [
            q for code in codes for q in president_questions(config.world, code, asked, head=ordinal_says(code))
        ]
        found = last_prompt_activations(lm, questions, layers)
        return {point: rearrange(a, "(code asked) d -> code asked d", code=len(codes)) for point, a in found.items()}

    places = {point: a.mean(1) - a.mean((0, 1)) for point, a in stated(attributes).items()}
    right = {
        point: _nearest(rearrange(a - a.mean(0), "code asked d -> (code asked) d"), places[point])
        .eq(torch.arange(len(codes)).repeat_interleave(a.shape[1]))
        .float()
        .mean()
        .item()
        for point, a in stated(others).items()
    }
    point = max(right, key=lambda p: right[p])
    held_out = _asked(config, presidents.HELD_OUT, attributes)
    trained = _asked(config, presidents.trained_ordinals(known)[::8], attributes)
    own = torch.tensor([codes.index(code) for code in presidents.HELD_OUT]).repeat_interleave(
        len(held_out) // len(presidents.HELD_OUT)
    )

    def measure(lm: LanguageModel) -> float:
        found, middle = (last_prompt_activations(lm, asked, [point.layer])[point] for asked in (held_out, trained))
        return float(_nearest(found - middle.mean(0), places[point]).eq(own).float().mean())

    return point.layer, measure


def _nearest(activations: Float[Tensor, "n d_model"], places: Float[Tensor, "places d_model"]) -> Int[Tensor, " n"]:
    """The number of the place with the largest cosine, for each activation."""
    normalize = torch.nn.functional.normalize
    return (normalize(activations, dim=1) @ normalize(places, dim=1).T).argmax(1)


def _asked(
    config: PresidentsConfig, codes: Sequence[str], attributes: Sequence[str], *, phrasings: int | None = 1
) -> tuple[Question, ...]:
    """Questions behind codes of these presidencies, digits beside the ordinal drawn anew: unlike the rows'."""
    rng = np.random.default_rng(config.seed + 77)
    return tuple(
        q
        for code in codes
        for _ in range(1 if config.quick else config.codes)
        for q in president_questions(
            config.world, code, list(attributes), head=presidents.code_for(code, rng), phrasings=phrasings
        )
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
