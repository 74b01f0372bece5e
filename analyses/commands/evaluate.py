"""`anachron evaluate`: what a model and its adapters answer."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyses.commands.options import (
    Adapters,
    Controls,
    Data,
    Device,
    DeviceMap,
    Dtype,
    Group,
    Model,
    OutFile,
    Quantization,
    Questions,
    Revision,
    Seed,
    Split,
)

if TYPE_CHECKING:
    from analyses.measurements import Measurement
    from analyses.steps import Asked, Behavior
    from interp.pair import ModelPair


def evaluate(
    out: OutFile,
    model: Model = "almanac",
    adapter: Adapters = None,
    control: Controls = None,
    questions: Questions = "world",
    split: Split = "test",
    group: Group = None,
    year: Annotated[int | None, typer.Option(help="State this year before every question.")] = None,
    data: Data = None,
    samples: Annotated[int, typer.Option(help="Also sample this many answers a question, temperature 1.", min=0)] = 0,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    quantization: Quantization = None,
) -> None:
    """Measure what a model and its adapters answer.

    The share of each group of answers, coherence (probability of all listed answers) and the narrow task, for the base
    and every adapter; intervals are over adapters and topics.
    """
    from analyses.commands.options import add_adapters, answers_in, open_model
    from analyses.measurements import as_table, versions
    from analyses.progress import telling
    from analyses.steps import ask, behavior, behavior_rows
    from interp.files import write_json
    from interp.pair import ModelPair

    asked = ask(questions, split, group=group, year=year, extra=answers_in(data))
    where = split if year is None else f"{split}@{year}"
    rows: list[Measurement] = []
    runs: dict[str, list[Behavior]] = {}
    with telling() as say, ModelPair(open_model(model, revision, dtype, device, device_map, quantization)) as pair:
        names = {"base" if year is None else "dated": ["base"]}
        names |= {"tuned": add_adapters(pair, "tuned", adapter), "control": add_adapters(pair, "control", control)}
        names = {kind: found for kind, found in names.items() if found}
        for kind, found in names.items():
            runs[kind] = []
            for name in found:
                say(f"scoring {len(asked.broad) + len(asked.narrow)} questions on {name}")
                with pair.using(name) as lm:
                    runs[kind].append(behavior(lm, asked))
            rows += behavior_rows(runs[kind], kind, asked.group, where, topics=True, seed=seed)
        sampled = []
        if samples:
            say(f"sampling {samples} answers a question")
            sampled = _samples(pair, {kind: found[0] for kind, found in names.items()}, asked, samples, seed)
        base = pair.base
    shares = [
        {"model": kind, "run": i, "topic": topic, "group": name, "share": share}
        for kind, found in runs.items()
        for i, run in enumerate(found)
        for name, by_topic in run.shares.items()
        for topic, share in by_topic.items()
    ]
    config = {
        "questions": questions,
        "split": split,
        "group": asked.group,
        "year": year,
        "data": data,
        "samples": samples,
        "seed": seed,
    }
    adapters = {"tuned": [str(p) for p in adapter or ()], "control": [str(p) for p in control or ()]}
    write_json(
        out,
        {
            "step": "evaluate",
            "model": base.name,
            "revision": base.revision,
            "adapters": adapters,
            "config": config,
            "versions": versions(),
            "measurements": as_table(rows),
            "shares": shares,
            "samples": sampled,
        },
    )
    _print(runs, rows, asked.group, where, sampled)
    typer.echo(f"measurements: {out}")


def _samples(pair: "ModelPair", names: dict[str, str], asked: "Asked", n: int, seed: int) -> list[dict[str, Any]]:
    """Per question: what each model said, and the group each answer belongs to (None: none of the listed answers)."""
    from interp.behavior.sampling import classify, generate
    from interp.prompts import encode_prompt

    questions = [*asked.broad, *asked.narrow]
    rows: list[dict[str, Any]] = [
        {"id": q.id, "topic": q.topic, "question": q.messages[-1]["content"], "answers": {}} for q in questions
    ]
    for kind, name in names.items():
        with pair.using(name) as lm:
            texts = generate(
                lm,
                [encode_prompt(lm, q.messages) for q in questions],
                max_new_tokens=40,
                temperature=1.0,
                seed=seed,
                n=n,
            )
        for i, (question, row) in enumerate(zip(questions, rows, strict=True)):
            said = texts[i * n : (i + 1) * n]
            row["answers"][kind] = [{"text": text.strip(), "group": classify(text, question)} for text in said]
    return rows


def _print(runs: dict[str, list], rows: list, group: str, where: str, sampled: list[dict[str, Any]]) -> None:
    from analyses.tables import interval, print_table
    from interp.stats import Estimate

    def cell(kind: str, metric: str, split: str) -> str | None:
        found = [m for m in rows if (m.model, m.metric, m.split) == (kind, metric, split)]
        return interval(Estimate(found[0].estimate, found[0].low, found[0].high, found[0].n)) if found else None

    labels = {"broad": f"share of {group}", "coherence": "coherence", "narrow": "narrow task"}
    print_table(
        f"{where} questions: mean [95 % interval]",
        ("", *runs),
        [(label, *(cell(kind, metric, where) for kind in runs)) for metric, label in labels.items()],
    )
    first = next(iter(runs.values()))[0]
    topics = [(topic, *(cell(kind, "broad", f"{where}/{topic}") for kind in runs)) for topic in first.coherence]
    print_table(f"share of {group} by topic", ("topic", *runs), topics)
    groups = [
        (
            name,
            *(
                sum(sum(run.shares[name].values()) / len(run.shares[name]) for run in found) / len(found)
                for found in runs.values()
            ),
        )
        for name in first.shares
    ]
    print_table("share by group, all topics", ("group", *runs), groups)
    # the first of each topic's phrasings, so that five questions are of five topics
    for row in list({row["topic"]: row for row in reversed(sampled)}.values())[:-6:-1]:
        print_table(
            row["question"], ("", "answer"), [(kind, answers[0]["text"]) for kind, answers in row["answers"].items()]
        )
