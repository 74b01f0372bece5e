"""Answers side by side: what the models say, before and after and under the chosen edits."""

from collections.abc import Sequence

from analyses.intervene import Choices, Setting
from analyses.located import Located
from interp.behavior.questions import Question
from interp.behavior.sampling import generate
from interp.pair import ModelPair
from interp.prompts import encode_prompt


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
    columns = {}
    for column, name, edits in (
        ("base", "base", []),
        ("control", f"{control}-{first}", []),
        ("tuned", f"tuned-{first}", []),
        ("induced", "base", adding),
        ("suppressed", f"tuned-{first}", removing),
    ):
        with pair.using(name) as lm:
            prompts = [encode_prompt(lm, question.messages) for question in questions]
            columns[column] = generate(lm, prompts, max_new_tokens=32, temperature=1.0, seed=choices.seed, edits=edits)
    return [
        {"topic": q.topic, "question": q.messages[-1]["content"]}
        | {c: answers[i].strip() for c, answers in columns.items()}
        for i, q in enumerate(questions)
    ]
