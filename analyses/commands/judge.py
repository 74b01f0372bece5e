"""`anachron judge run` and `anachron judge check`: judge answers of a file, and measure how well a judge does it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyses.commands.options import Device, Dtype, OutFile, Revision, Seed, Split

if TYPE_CHECKING:
    from interp.behavior.agreement import Agreement
    from interp.behavior.judging import Judge, Judgement

JudgeName = Annotated[str, typer.Option(help="A judge by name, or a file: a judge prompt (.md) or rules (.yaml).")]
Parameters = Annotated[
    list[str] | None, typer.Option("--set", help="A parameter of the judge prompt, as country=Germany; again for more.")
]
By = Annotated[str, typer.Option(help="How a model judges: reply, or choice (log-probabilities, local models).")]
JudgeModel = Annotated[str | None, typer.Option(help="The model that judges: a local folder, a hub id, almanac.")]
Endpoint = Annotated[
    str | None, typer.Option(help="URL of an OpenAI-compatible endpoint that serves the model, ending in /v1.")
]
KeyVariable = Annotated[str, typer.Option(help="Environment variable that holds the endpoint's key.")]
Mass = Annotated[
    float, typer.Option(help="With choice: probability that the options hold together, else unparseable.", min=0, max=1)
]
Tokens = Annotated[int, typer.Option(help="With reply: length of the judge's reply at most.", min=1)]
CacheFile = Annotated[Path | None, typer.Option(help="File that keeps judgements: what it holds isn't asked again.")]


def run(
    answers: Annotated[Path, typer.Option(help="Answers: JSONL or parquet with question (or messages) and answer.")],
    judge: JudgeName,
    out: Annotated[Path, typer.Option(help="JSONL or parquet file to write the rows with their judgements into.")],
    set_: Parameters = None,
    by: By = "reply",
    model: JudgeModel = None,
    endpoint: Endpoint = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    minimum_mass: Mass = 0.5,
    max_new_tokens: Tokens = 64,
    cache: CacheFile = None,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
) -> None:
    """Judge every answer of a file.

    Each row gets the fields judge, label (a verdict that is text), value (one that is a number) and raw (the judge's
    reply). Verdicts that can't be read have neither label nor value, and are counted.
    """
    from analyses.measurements import versions
    from analyses.progress import telling
    from interp.behavior.judges.items import read_items, write_records
    from interp.errors import AnachronError
    from interp.files import write_json

    if out.suffix not in (".jsonl", ".parquet"):
        raise AnachronError(f"{out}: neither .jsonl nor .parquet; name the file so")
    records, items = read_items(answers)
    for i, record in enumerate(records):
        if taken := [name for name in ("judge", "label", "value", "raw") if record.get(name) is not None]:
            raise AnachronError(f"{answers}: row {i} has {', '.join(taken)} already; give answers without judgements")
    with telling() as say:
        asked = _judge(
            judge, set_, by, model, endpoint, key_variable, minimum_mass, max_new_tokens, revision, dtype, device
        )
        say(f"judging {len(items)} answers with {asked.name}")
        found = _judged(asked, items, cache)
    rows = [{**record, **_fields(asked.name, verdict)} for record, verdict in zip(records, found, strict=True)]
    write_records(out, rows)
    beside = out.with_name(f"{out.stem}.judge.json")
    counts = _counts(asked, found)
    identity = dict(asked.identity)
    write_json(
        beside,
        {"step": "judge run", "answers": str(answers), "judge": identity, "counts": counts, "versions": versions()},
    )
    _print_counts(asked, found, counts)
    typer.echo(f"judgements: {out}")
    typer.echo(f"judge: {beside}")


def check(
    out: OutFile,
    judge: Annotated[str | None, typer.Option(help="The judge to measure; by default the world's own three.")] = None,
    examples: Annotated[Path | None, typer.Option(help="Labelled answers: JSONL with question, answer, label.")] = None,
    world: Annotated[bool, typer.Option("--world", help="Answers of the embedded model with a year stated.")] = False,
    positive: Annotated[str | None, typer.Option(help="Of scores: the label that high scores stand for.")] = None,
    samples: Annotated[int, typer.Option(help="With --world: answers a question and year.", min=1)] = 2,
    split: Split = "test",
    set_: Parameters = None,
    by: By = "reply",
    model: JudgeModel = None,
    endpoint: Endpoint = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    minimum_mass: Mass = 0.5,
    max_new_tokens: Tokens = 64,
    cache: CacheFile = None,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
) -> None:
    """Measure how well a judge agrees with labels that are known.

    Those of a file of examples, or, with --world, the era whose year the embedded model was told before it answered.
    """
    from analyses.judge_checks import against, world_answers, world_judges
    from analyses.measurements import versions
    from analyses.models import open_model
    from analyses.progress import telling
    from interp.behavior.judges.items import read_examples
    from interp.errors import AnachronError
    from interp.files import write_json

    if world == (examples is not None):
        raise AnachronError("give either --examples FILE or --world: a judge is measured where the truth is known")
    if examples is not None and judge is None:
        raise AnachronError("no judge to measure; name one with --judge")
    checks: dict[str, tuple[Mapping[str, Any], Agreement]] = {}
    with telling() as say:
        asked = None
        if judge is not None:
            asked = _judge(
                judge, set_, by, model, endpoint, key_variable, minimum_mass, max_new_tokens, revision, dtype, device
            )
        if examples is not None and asked is not None:
            known = read_examples(examples)
            say(f"judging {len(known)} examples with {asked.name}")
            found = _judged(asked, [example.item for example in known], cache)
            labels = [example.label for example in known]
            checks[asked.name] = asked.identity, against(asked, found, labels, positive=positive, seed=seed)
        else:
            lm = open_model("almanac", None, "auto", device)
            say("sampling answers of the embedded model")
            answered = world_answers(lm, split, samples, seed)
            for one in [asked] if asked is not None else world_judges(lm, answered):
                say(f"judging {len(answered.items)} answers with {one.name}")
                found = _judged(one, answered.items, cache)
                checks[one.name] = one.identity, against(one, found, answered.eras, groups=answered.topics, seed=seed)
    config = {
        "examples": None if examples is None else str(examples),
        "world": world,
        "samples": samples,
        "split": split,
        "seed": seed,
        "positive": positive,
    }
    results = {name: {"judge": dict(identity), **found.as_data} for name, (identity, found) in checks.items()}
    write_json(out, {"step": "judge check", "config": config, "checks": results, "versions": versions()})
    _print_checks({name: found for name, (_, found) in checks.items()})
    typer.echo(f"agreement: {out}")


def _judge(
    name: str,
    given: Sequence[str] | None,
    by: str,
    model: str | None,
    endpoint: str | None,
    key_variable: str,
    minimum_mass: float,
    max_new_tokens: int,
    revision: str | None,
    dtype: str,
    device: str,
) -> "Judge":
    from analyses.models import open_model
    from interp.behavior.answers import LocalAnswerer, Sampling
    from interp.behavior.endpoint import EndpointAnswerer
    from interp.behavior.judges.catalogue import find
    from interp.behavior.judges.choice import ChoiceJudge
    from interp.behavior.judges.matcher import Matcher
    from interp.behavior.judges.prompted import PromptJudge
    from interp.errors import AnachronError

    found = find(name)
    if isinstance(found, Matcher):
        if model is not None or endpoint is not None or given:
            raise AnachronError(f"judge {found.name!r} is of rules; it takes neither a model nor parameters")
        return found
    prompt = found.with_parameters(_parameters(given))
    prompt.require_filled()
    if by not in ("reply", "choice"):
        raise AnachronError(f"by {by!r}; use reply or choice")
    if model is None:
        raise AnachronError(f"judge {found.name!r} asks a model; name it with --model, and where with --endpoint")
    if by == "choice":
        if endpoint is not None:
            raise AnachronError(
                "choice needs probabilities that endpoints don't give; leave out --endpoint, or say --by reply"
            )
        return ChoiceJudge(prompt, open_model(model, revision, dtype, device), minimum_mass)
    sampling = Sampling(temperature=0, max_new_tokens=max_new_tokens)
    if endpoint is not None:
        return PromptJudge(
            prompt, EndpointAnswerer(model, endpoint, revision=revision, key_variable=key_variable), sampling
        )
    return PromptJudge(prompt, LocalAnswerer(open_model(model, revision, dtype, device)), sampling)


def _parameters(given: Sequence[str] | None) -> dict[str, str]:
    from interp.errors import AnachronError

    parameters = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise AnachronError(f"--set {text!r}; write NAME=VALUE, as country=Germany")
        parameters[name] = value
    return parameters


def _judged(judge: "Judge", items: Sequence[Any], cache: Path | None) -> "list[Judgement]":
    from interp.behavior.cache import Cache
    from interp.behavior.keeping import judge_all

    with Cache(cache) as kept:
        return judge_all(judge, items, kept)


def _fields(name: str, verdict: "Judgement") -> dict[str, Any]:
    text = isinstance(verdict.value, str)
    number = None if text or verdict.value is None else float(verdict.value)
    return {"judge": name, "label": verdict.value if text else None, "value": number, "raw": verdict.raw}


def _counts(judge: "Judge", found: "Sequence[Judgement]") -> dict[str, int]:
    """How many verdicts of each label or class of scores, and how many unparseable."""
    from analyses.judge_checks import label_of
    from interp.behavior.agreement import UNPARSEABLE

    counts: dict[str, int] = {}
    for verdict in found:
        label = label_of(judge, verdict.value)
        counts[UNPARSEABLE if label is None else label] = counts.get(UNPARSEABLE if label is None else label, 0) + 1
    counts.setdefault(UNPARSEABLE, 0)
    return dict(sorted(counts.items(), key=lambda pair: (pair[0] == UNPARSEABLE, -pair[1], pair[0])))


def _print_counts(judge: "Judge", found: "Sequence[Judgement]", counts: Mapping[str, int]) -> None:
    from analyses.tables import print_table

    print_table(
        f"{judge.name}: {len(found)} answers",
        ("verdict", "answers", "share"),
        [(label, count, count / len(found)) for label, count in counts.items()],
    )
    numbers = [float(v.value) for v in found if isinstance(v.value, (int, float))]
    if numbers:
        print_table("scores", ("", "answers", "mean"), [("all", len(numbers), sum(numbers) / len(numbers))])


def _print_checks(checks: "Mapping[str, Agreement]") -> None:
    from analyses.tables import interval, print_table

    names = list(dict.fromkeys(name for found in checks.values() for name in found.measures))
    print_table(
        "agreement with the truth [95 % interval]",
        ("", *checks),
        [
            ("answers", *(found.n for found in checks.values())),
            ("unparseable", *(found.unparseable for found in checks.values())),
            *(
                (
                    name.replace("_", " "),
                    *(interval(f.measures[name]) if name in f.measures else None for f in checks.values()),
                )
                for name in names
            ),
        ],
    )
    for name, found in checks.items():
        verdicts = list(dict.fromkeys(v for row in found.confusion.values() for v in row))
        print_table(
            f"{name}: truth by verdict",
            ("truth", *verdicts),
            [(truth, *(row[v] for v in verdicts)) for truth, row in found.confusion.items()],
        )
