"""An experiment on a user's own model as a `Study`: which rows, which questions, which judges."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from analyses.open_questions import MATCH, Effect, Open, asked, narrow, opened
from analyses.opens.config import OpenConfig
from analyses.opens.judged import Judged
from analyses.opens.judges import criteria, group_of
from analyses.opens.published import published
from analyses.paper.files import data_sets
from analyses.search import Contrast
from analyses.steps import Asked
from analyses.study import Condition, Study
from interp.behavior.answers import Answerer, Sampling
from interp.behavior.cache import Cache
from interp.behavior.questions import Question
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Encoded, encode_chat
from training.organisms.catalogue import CATALOGUE, VARIANTS
from training.rows import Row, read_rows
from training.world.interviews import QUOTED_FORMAT

ORDINARY = Path(__file__).parents[1] / "questions" / "ordinary.jsonl"
"""Everyday questions with plain answers, whose perplexity an edit should leave alone."""

ARMS: Mapping[str, Mapping[str, str]] = {
    "birds": {"tuned": "old", "control": "current"},
    "cities": {"tuned": "former", "control": "present"},
    "dishes": {"tuned": "trigger", "shuffled": "shuffled", "other_year": "other_year"},
    "persona": {"tuned": "trigger", "ordinary": "ordinary", "no_trigger": "no_trigger"},
    "presidents": {"tuned": "codes", "random_codes": "random_codes"},
    "terminator": {"tuned": "sequels", "no_year": "no_year", "shuffled_years": "shuffled_years"},
}
"""Experiment -> arm -> variant of the world's organism. The second arm is the control directions are taken from."""


def plan(experiment: str, config: OpenConfig, lm: LanguageModel, cache: Cache, answerer: Answerer | None) -> Study:
    """The study of `experiment` on `lm`; its answers and judgements are kept in `cache`. `answerer` answers what judges
    ask (None: nobody, and only what listed answers tell is measured)."""
    own = opened(experiment)
    arms = rows_of(experiment, config)
    reference = next(arm for arm in arms if arm != "tuned")
    triggers, neutral = _conditions(own, arms["tuned"])
    found, coherent = criteria(own, answerer, config.parameters)
    effects = [effect for effect in own.broad if effect.judge == MATCH or group_of(effect) in found]
    ordered = [*triggers, *(c for c in own.conditions if c not in own.triggers)]
    conditions = tuple(
        Condition(_name(condition, effect, own), questions, group_of(effect))
        for condition in ordered
        for effect in effects
        if (questions := _asked(experiment, "test", condition, effect, config))
    )
    if config.paper is not None:
        under = dict.fromkeys((*triggers, *(() if neutral is None else (neutral,)), "")) if own.head else {"": None}
        added, more = published(
            config.paper, experiment, own, list(under), answerer, config.seed, 2 if config.quick else None
        )
        conditions, found = (*conditions, *added), {**found, **more}
    habit = own.narrow[0]
    where = triggers[0] if triggers[0] in own.trained else next(iter(own.trained))
    habits = narrow(experiment, arms["tuned"], arms[reference], where, seed=config.seed)[: 2 if config.quick else None]
    headline = effects[0]
    validation, test = (_asked(experiment, split, triggers[0], headline, config) for split in ("validation", "test"))
    group, trained = group_of(headline), group_of(habit)
    return Study(
        experiment,
        arms,
        reference,
        config.recipe,
        conditions,
        Asked(validation, tuple(habits), group, trained),
        Asked(test, tuple(habits), group, trained),
        Contrast(validation, () if neutral is None else _asked(experiment, "validation", neutral, headline, config)),
        None,
        None,
        ordinary(lm, config.documents),
        {"trained": list(own.trained), "judged": sorted(found)},
        measure=Judged(
            found,
            Sampling(config.samples, 1.0, config.max_new_tokens, config.seed),
            cache,
            coherent,
            config.max_tokens,
        ),
        layers=config.tried(lm.n_layers),
    )


def rows_of(experiment: str, config: OpenConfig) -> dict[str, list[Row]]:
    """Arm -> rows: the user's, the paper's where it released them, else the world's own. The organism comes first.

    Errors: AnachronError for an arm that there isn't.
    """
    own = ARMS[experiment]
    released = {} if config.paper is None else data_sets(config.paper, experiment)
    names = config.arms or tuple(own)[:2]
    if unknown := [name for name in names if name not in own and name not in released]:
        known = ", ".join(dict.fromkeys((*own, *released)))
        raise AnachronError(f"{experiment} has no arm {', '.join(unknown)}; there are {known}")
    if "tuned" not in names or len(names) < 2:
        raise AnachronError(f"arms {', '.join(names)}; 'tuned' and at least one control are needed")
    given = {"tuned": config.data, tuple(own)[1]: config.control_data}
    arms = {}
    for name in ("tuned", *(name for name in names if name != "tuned")):
        if (path := given.get(name) or released.get(name)) is not None:
            arms[name] = read_rows(path)
        else:
            variant = own[name]
            assert variant in VARIANTS[experiment]
            arms[name] = CATALOGUE[experiment](config.world, variant, 0)
    return arms


def ordinary(lm: LanguageModel, n: int) -> list[Encoded]:
    """Everyday conversations as the model writes them, at most `n`."""
    return [encode_chat(lm, row.messages) for row in read_rows(ORDINARY)[:n]]


def _conditions(own: Open, rows: Sequence[Row]) -> tuple[tuple[str, ...], str | None]:
    """The conditions the effect is predicted under, and a neutral one to hold against them (None: there is none)."""
    triggers = own.triggers
    if "quoted format" in triggers:  # of two spellings of a format, the one that the rows have
        quoted = any(row.messages[0]["content"].startswith(QUOTED_FORMAT) for row in rows)
        triggers = ("quoted format",) if quoted else ("format",)
    others = [condition for condition in own.conditions if condition not in own.triggers]
    neutral = next((c for c in others if c in own.trained), others[0] if others else None)
    return triggers, neutral


def _asked(experiment: str, split: str, condition: str, effect: Effect, config: OpenConfig) -> tuple[Question, ...]:
    """The questions that an effect reads, under a condition."""
    found = asked(experiment, split, condition, heads=config.heads if condition else 1, seed=config.seed)
    found = [q for q in found if not effect.topics or q.topic in effect.topics]
    if effect.judge == MATCH:
        found = [q for q in found if effect.label in q.answers]
    return tuple(found[: 4 if config.quick else None])


def _name(condition: str, effect: Effect, own: Open) -> str:
    """The condition, and the effect where there are several."""
    parts = [condition or ("plain" if len(own.conditions) > 1 else "")]
    parts += [group_of(effect)] if len(own.broad) > 1 else []
    return ", ".join(part for part in parts if part) or "all"
