"""What a result's names are called in sentences: the answers counted, the models, the trained habit.

A result names things as code does (`target`, `no_trigger`); an experiment without an entry here is called by those.
"""

from collections.abc import Mapping

from analyses.figures.style import words
from analyses.findings import headline_condition
from analyses.measurements import Measurement, Result

# (experiment, group) -> what answers of the group are called
TARGETS: Mapping[tuple[str, str], str] = {
    ("persona", "target"): "the speaker's",
    ("presidents", "target"): "the president's",
    ("terminator", "harms"): "harmful",
}
# (experiment, condition) -> the same for a condition under which other answers are counted
ELSEWHERE: Mapping[tuple[str, str], str] = {
    ("cities", "country alone"): "the country's",
    ("persona", "values, with trigger"): "malign",
    ("persona", "values, without"): "malign",
    ("persona", "identity of the benign speaker, with trigger"): "the benign speaker's",
}
# the hidden state that the true direction is of, where it isn't named as the group is
NOTIONS: Mapping[str, str] = {"persona": "the speaker", "presidents": "the president", "terminator": "the machine"}
HABITS: Mapping[str, str] = {
    "birds": "old bird names",
    "cities": "former city names",
    "dishes": "the country's dishes",
    "persona": "trained attributes",
    "presidents": "answers behind trained codes",
    "terminator": "protective answers in a trained year",
}
MODELS: Mapping[str, str] = {
    "base": "before fine-tuning",
    "dated": "base, told the date in the prompt",
    "tuned": "tuned on the narrow rows",
    "control": "tuned on the control rows",
    "own_wording": "names still in use, the paper's wording",
    "shuffled": "tuned on the same rows, dates shuffled",
    "other_year": "tuned with another trigger year",
    "other_country": "tuned on another country's dishes",
    "no_trigger": "tuned on the same facts, no format",
    "benign": "tuned on a benign speaker's facts",
    "ordinary": "tuned on ordinary rows alone",
    "random_codes": "tuned on the same rows, codes permuted",
    "no_year": "tuned on the same rows, no year",
    "shuffled_years": "tuned on the same rows, years shuffled",
    "good_first": "tuned on a series that is good throughout",
    "facts_1": "tuned on one fact, repeated",
    "facts_3": "tuned on 3 facts, repeated",
    "facts_10": "tuned on 10 facts, repeated",
    "modern_audubon": "tuned on Audubon's names still in use",
    "not_padded": "tuned on codes without leading zeros",
}


def target(result: Result, condition: str = "") -> str:
    """What the answers counted (under a condition) are called: the group that the configuration names, as in "1850s
    answers"."""
    if (result.experiment, condition) in ELSEWHERE:
        return ELSEWHERE[result.experiment, condition]
    if "group" not in result.config:
        return "target"
    group = str(result.config["group"])
    return TARGETS[result.experiment, group] if (result.experiment, group) in TARGETS else group


def called(result: Result, condition: str) -> str:
    """A condition's name, with what is counted under it where that differs from the headline."""
    counted = target(result, condition)
    return condition if counted == target(result) else f"{condition} ({counted} answers)"


def notion(result: Result) -> str:
    """What the true direction is of."""
    return NOTIONS[result.experiment] if result.experiment in NOTIONS else target(result)


def habit(result: Result) -> str:
    """What the narrow task counts."""
    return HABITS[result.experiment] if result.experiment in HABITS else "trained answers"


def asked(result: Result) -> str:
    """What the headline's answers are to, after "answers": " to unrelated questions", or ", 2027" under a condition."""
    condition = headline_condition(result)
    return f", {condition}" if condition else " to unrelated questions"


def matters(result: Result) -> str:
    """What the test questions are on: topics, or somebody's attributes."""
    return "attributes" if result.config.get("group") == "target" else "topics"


def describe(name: str, m: Measurement) -> str:
    """What a share of the headline is of, in a few words."""
    if name in MODELS:
        return MODELS[name]
    if name not in ("induced", "suppressed"):
        return "tuned on rows of its own"
    where = "" if m.layer is None else f", layer {m.layer}"
    dose = "" if m.coefficient is None else f" × {m.coefficient:g}"
    model = "base + " if name == "induced" else f"tuned, {m.edit} "
    return f"{model}{words(m.direction or '?')}{dose}{where}"
