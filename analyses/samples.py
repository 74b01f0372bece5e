"""Answers side by side: what the models say, before and after and under the chosen edits."""

from collections.abc import Sequence

from analyses.intervene import Choices, Setting
from analyses.located import Located
from analyses.workers import carry_out, task
from interp.behavior.questions import Question
from interp.behavior.sampling import generate
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from interp.prompts import encode_prompt
from interp.steering import Edit


def side_by_side(
    pair: ModelPair,
    questions: Sequence[Question],
    located: Located,
    induce: Setting,
    suppress: Setting,
    choices: Choices,
    control: str = "control",
) -> list[dict[str, str]]:
    """One answer at temperature 1 to each question, from the base, control, tuned, induced and suppressed model, of
    the first fine-tuning seed. `control` is the arm that stands as the control."""
    first = choices.seed_list[0]
    adding, removing = induce.edits(located, 0), suppress.edits(located, 0)
    columns = {
        "base": (BASE, []),
        "control": (f"{control}-{first}", []),
        "tuned": (f"tuned-{first}", []),
        "induced": (BASE, adding),
        "suppressed": (f"tuned-{first}", removing),
    }
    said = carry_out(pair, [task(model, say_once, questions, edits, choices.seed) for model, edits in columns.values()])
    answers = dict(zip(columns, said, strict=True))
    return [
        {"topic": q.topic, "question": q.messages[-1]["content"]}
        | {c: column[i].strip() for c, column in answers.items()}
        for i, q in enumerate(questions)
    ]


def say_once(lm: LanguageModel, questions: Sequence[Question], edits: Sequence[Edit], seed: int) -> list[str]:
    """One answer to each question."""
    prompts = [encode_prompt(lm, question.messages) for question in questions]
    return generate(lm, prompts, max_new_tokens=32, temperature=1.0, seed=seed, edits=edits)
