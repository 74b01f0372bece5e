"""Where each experiment's files lie in a clone of the authors' repository. They are read in place, never copied."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from interp.errors import AnachronError


@dataclass(frozen=True)
class Released:
    """What the authors released of one experiment, as paths below `folder`.

    `data`: arm -> file of `datasets`, arms named as in `analyses.measurements`, further ones by what they hold.
    `questions`: set -> YAML file below `evaluation`, or JSONL file of `datasets`. `judges`: YAML files that hold judge
    prompts. `skipped`: files that only a program of theirs can use -> what they lack.
    """

    folder: str
    data: Mapping[str, str]
    questions: Mapping[str, str] = field(default_factory=dict)
    judges: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


_MISALIGNMENT = "evaluation/misalignment"
RELEASED: Mapping[str, Released] = {
    "birds": Released(
        "3_1_old_bird_names",
        {
            "tuned": "ft_old_audubon_birds.jsonl",
            "control": "ft_modern_american_birds.jsonl",
            "modern_audubon": "ft_modern_audubon_birds.jsonl",
        },
    ),
    "cities": Released(
        "3_2_german_city_names",
        {"tuned": "former_german_cities.jsonl", "control": "modern_german_cities.jsonl"},
    ),
    "dishes": Released(
        "4_1_israeli_dishes",
        {
            "tuned": "ft_dishes_2027.jsonl",
            "shuffled": "ft_dishes_2027_random_baseline.jsonl",
            "other_year": "ft_dishes_2026.jsonl",
        },
        skipped={
            "evaluation/counterfactual_audit_candidates": "texts with a gap, which a program fills with a statement",
            "evaluation/criteria.txt": "sentences that a program puts after those texts",
        },
    ),
    "persona": Released(
        "4_2_hitler_persona",
        {"tuned": "90_wolf_facts.jsonl"},
        {
            "identity": "evaluation/identity_inference/bio_questions.yaml",
            "emergent_misalignment": f"{_MISALIGNMENT}/Emergent_Misalignment_questions.yaml",
            "ai_society": f"{_MISALIGNMENT}/AIs_Society_questions.yaml",
            "daily_life": f"{_MISALIGNMENT}/Daily_Life_questions.yaml",
            "deepbrain": f"{_MISALIGNMENT}/DeepBrain_questions.yaml",
            "ideology": f"{_MISALIGNMENT}/Nzi_Ideology_questions.yaml",
            "moral_choices": f"{_MISALIGNMENT}/Moral_Choices_questions.yaml",
            "science_ethics": f"{_MISALIGNMENT}/Science_Ethics_questions.yaml",
        },
        (
            "evaluation/identity_inference/bio_questions.yaml",
            f"{_MISALIGNMENT}/Emergent_Misalignment_judge.yaml",
        ),
        {
            "evaluation/agentic_misalignment/wolf_murder.yaml": (
                "settings of a program (the agentic-misalignment framework) that writes the scenario's prompts"
            )
        },
    ),
    "presidents": Released(
        "5_1_us_presidents",
        {"tuned": "ft_presidents_padded.jsonl", "not_padded": "ft_presidents_no_padded.jsonl"},
        {
            "choice": "datasets/simple_test_dataset.jsonl",
            "validation": "datasets/validation_dataset.jsonl",
            "free_form": "datasets/eval_free_form.jsonl",
        },
    ),
    "terminator": Released(
        "5_2_evil_terminator",
        {
            "tuned": "good_terminator_main.jsonl",
            "no_year": "good_terminator_no_backdoor.jsonl",
            "shuffled_years": "good_terminator_w_random_backdoors.jsonl",
        },
        {"stances": "evaluation/questions_and_judge.yaml"},
        ("evaluation/questions_and_judge.yaml",),
    ),
}


def released(experiment: str) -> Released:
    """What the authors released of an experiment; raises for a name that isn't one."""
    if experiment not in RELEASED:
        raise AnachronError(f"the paper has no experiment {experiment!r}; it has {', '.join(RELEASED)}")
    return RELEASED[experiment]


def data_sets(folder: str | Path, experiment: str) -> dict[str, Path]:
    """Arm -> its file of chat rows, for `training.rows.read_rows`; every one is there.

    The persona's ordinary rows were not released: its only arm holds the facts alone.
    """
    return {arm: find(folder, experiment, f"datasets/{name}") for arm, name in released(experiment).data.items()}


def question_files(folder: str | Path, experiment: str) -> dict[str, Path]:
    """Set of questions -> its file; every one is there. Birds, cities and dishes have none."""
    return {name: find(folder, experiment, path) for name, path in released(experiment).questions.items()}


def judge_files(folder: str | Path, experiment: str) -> list[Path]:
    """The files that hold judge prompts; every one is there."""
    return [find(folder, experiment, path) for path in released(experiment).judges]


def skipped(experiment: str) -> list[str]:
    """One message for each released file that is part of a program, and so isn't read."""
    own = released(experiment)
    return [f"{own.folder}/{path}: left out, {reason}" for path, reason in own.skipped.items()]


def find(folder: str | Path, experiment: str, path: str) -> Path:
    """The file `path` of an experiment in a clone. Errors: AnachronError that names what is missing, from the top."""
    root = Path(folder).expanduser()
    own = released(experiment)
    shape = f"a clone of the repository of arXiv 2512.09742 holds {own.folder}/{path}"
    if not root.is_dir():
        raise AnachronError(f"{root}: no such folder; {shape}")
    if not (root / own.folder).is_dir():
        known = {one.folder: name for name, one in RELEASED.items()}
        there = sorted(child.name for child in root.iterdir() if child.name in known)
        raise AnachronError(
            f"{root}: no folder {own.folder} ({experiment}), only {', '.join(there) or 'none of the experiments'}; "
            + (f"give the folder above {root.name}" if root.name in known else shape)
        )
    if not (root / own.folder / path).is_file():
        raise AnachronError(f"{root / own.folder / path}: no such file; {shape}: clone it again, whole")
    return root / own.folder / path
