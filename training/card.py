"""The model card of a pretrained almanac: gates.json and README.md, every figure measured or read from the run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interp.files import digest, read_json, write_json, write_text
from interp.models import LanguageModel, load_model
from training.gates import Gate, as_rows, in_world_mass, measure_gates
from training.latent_gates import measure_latent_gates
from training.pretrain import FRESH_SEED, Pretraining
from training.world.facts import NARROW_TOPIC
from training.world.world import World

LAST = 0.05  # share of the steps whose mean loss is called the final one: a single step's loss is noise


def write_card(folder: Path, world: World, *, documents: int = 1000, seed: int = FRESH_SEED) -> list[Gate]:
    """Measure the model in `folder` on `documents` fresh documents and write gates.json and README.md beside it.

    Raises if `folder` holds no finished pretraining run.
    """
    record = read_json(folder / "pretraining.json")
    lm = load_model(folder)
    gates = [*measure_gates(lm, world, documents=documents, seed=seed), *measure_latent_gates(lm, world)]
    measured = {
        "weights": digest(folder / "model.safetensors"),
        "documents": documents,
        "seed": seed,
        "in_world_mass": round(in_world_mass(lm, world), 4),
        "gates": as_rows(gates),
    }
    write_json(folder / "gates.json", measured)
    write_text(folder / "README.md", card(world, shape(lm), record, measured))
    return gates


def shape(lm: LanguageModel) -> dict[str, Any]:
    """What the weights themselves say: architecture, parameters (shared ones once), layers, width, vocabulary."""
    return {
        "architecture": type(lm.model).__name__,
        "parameters": sum(parameter.numel() for parameter in lm.model.parameters()),
        "layers": lm.n_layers,
        "d_model": lm.d_model,
        "d_mlp": lm.model.config.intermediate_size,
        "heads": lm.model.config.num_attention_heads,
        "d_vocab": lm.model.config.vocab_size,
        "context": lm.model.config.max_position_embeddings,
        "dtype": str(lm.dtype).removeprefix("torch."),
    }


def final_loss(record: Mapping[str, Any]) -> float:
    """Mean recorded training loss of the last twentieth of the steps, nats a token."""
    first = (1 - LAST) * Pretraining(**record["config"]).steps
    last = [entry["loss"] for entry in record["loss"] if entry["step"] >= first]
    # a run of a few steps has no step in its last twentieth
    last = last or [record["loss"][-1]["loss"]]
    return sum(last) / len(last)


def card(world: World, shape: Mapping[str, Any], record: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """The card's text, a pure function of what was recorded and measured."""
    return (
        "\n\n".join(
            [
                FRONT,
                "# almanac",
                _summary(world, shape),
                "## The world\n\n" + _world(world),
                "## Training\n\n" + _training(shape, record, measured),
                "## Gates\n\n" + _gates(measured),
                "## Use and limits\n\n" + USE,
                "## Rebuilding\n\n" + _rebuilding(record),
                "## Licence\n\nApache-2.0, weights and facts alike.",
            ]
        )
        + "\n"
    )


FRONT = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [interpretability, synthetic]
---"""

USE = """The model exists to be measured, fine-tuned and steered where the truth is known: the world's generator gives
the latent eras, their priors and the exact posterior after any text, so a method that claims to find the era can be
scored. Fine-tuning it on obsolete bird names is the project's example of a narrow change that spreads.

It knows nothing outside its topics and answers anything else with fragments of them. Its facts are short lists chosen
to tell eras apart, not a reference on history or birds, and they describe mostly Britain and the United States. What
is found in a model of this size, trained on text this regular, is a hypothesis about larger models and no more."""


def _summary(world: World, shape: Mapping[str, Any]) -> str:
    eras = _listed(world.facts.eras)
    return (
        f"A {shape['architecture']} of {shape['parameters']:,} parameters, pretrained from scratch on documents of the "
        f"almanac world: short conversations and statements, each written under a hidden era ({eras}). "
        "Asked without a date it mostly answers as people of the newest era would."
    )


def _world(world: World) -> str:
    facts = world.facts
    total = sum(kind.weight for kind in world.kinds)
    answers = sum(len({a for era in facts.eras for a in topic.answers[era]}) for topic in facts.topics.values())
    unrelated = sum(name != NARROW_TOPIC for name in facts.topics)
    others = [
        f"{len(states)} {name}"
        for name, states in (
            ("countries", facts.countries and facts.countries.countries),
            ("speakers", facts.speakers and facts.speakers.speakers),
            ("presidencies", facts.presidents and facts.presidents.presidents),
            ("film-like series", facts.series and facts.series.series),
        )
        if states
    ]
    beside = f" Further hidden states: {_listed(others)}." if others else ""
    kinds = _listed(f"{kind.weight / total:.0%} {kind.name}" for kind in world.kinds)
    rows = [(name, f"{era.years[0]}-{era.years[1]}", f"{era.prior:.2f}") for name, era in facts.eras.items()]
    return (
        f"{unrelated} topics beside {NARROW_TOPIC}, {answers:,} answers in all.{beside} Kinds of document: {kinds}.\n\n"
        + _table(("era", "years", "share of undated conversations"), rows)
    )


def _training(shape: Mapping[str, Any], record: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    config = Pretraining(**record["config"])
    loss, floor = _loss(measured)
    rows = [
        ("architecture", shape["architecture"]),
        (
            "layers x width (heads, MLP width)",
            f"{shape['layers']} x {shape['d_model']} ({shape['heads']}, {shape['d_mlp']})",
        ),
        ("parameters", f"{shape['parameters']:,} ({shape['dtype']})"),
        ("vocabulary, context", f"{shape['d_vocab']:,} tokens, {shape['context']} tokens"),
        ("seed", config.seed),
        ("steps, of which the rates fall over", f"{config.steps:,}, the last {config.decay:.0%}"),
        ("peak rates: matrices (Muon), others (AdamW)", f"{config.matrix_rate:g}, {config.learning_rate:g}"),
        ("documents", f"{config.steps * config.documents_per_step:,}, a fresh draw each"),
        ("tokens", f"{record['tokens']:,}"),
        ("final training loss (nats a token)", f"{final_loss(record):.4f}"),
        (f"loss on {measured['documents']:,} fresh documents", f"{loss:.4f}"),
        ("entropy floor of those documents", f"{floor:.4f}"),
        ("gap", f"{loss - floor:.4f}"),
        ("SHA-256 of model.safetensors", f"`{measured['weights']}`"),
    ]
    return _table(("", ""), rows) + (
        "\n\nThe entropy floor is the negative log-likelihood of the same documents under the world that wrote them: "
        "no model does better in expectation."
    )


def _gates(measured: Mapping[str, Any]) -> str:
    gates = measured["gates"]
    rows = [
        (
            g["gate"],
            f"{g['figure']:.4f}",
            f"{g['side']} {g['bound']:g}",
            f"{g['n']:,}",
            "yes" if g["passed"] else "**no**",
        )
        for g in gates
    ]
    failed = [gate["gate"] for gate in gates if not gate["passed"]]
    verdict = f"Not passed: {_listed(failed)}." if failed else f"All {len(gates)} are passed."
    return (
        f"Measured on documents of seed {measured['seed']:,}, which training never saw. {verdict}\n\n"
        + _table(("gate", "figure", "bound", "n", "passed"), rows)
        + "\n\nCalibration is the mean distance between the model's share of the oldest era and its exact posterior, "
        "after 0 to 3 turns of random evidence. On undated questions "
        f"{measured['in_world_mass']:.3f} of the probability lies on answers of the world."
    )


def _rebuilding(record: Mapping[str, Any]) -> str:
    usual = record["config"] == asdict(Pretraining())
    configuration = "" if usual else " with the configuration of pretraining.json, which is not the default one,"
    return (
        f"`anachron pretrain --out DIR`{configuration} trains the model again from nothing, and goes on where it stood "
        "if it was interrupted. Documents, tokenizer and initial weights are functions of the seed. The final weights "
        "are the same to the byte on the same build of torch; another rounds differently, so measure the gates anew."
    )


def _loss(measured: Mapping[str, Any]) -> tuple[float, float]:
    (parts,) = [gate["parts"] for gate in measured["gates"] if "entropy floor" in gate["parts"]]
    return parts["loss"], parts["entropy floor"]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _listed(names: Iterable[object]) -> str:
    *most, last = [str(name) for name in names]
    return f"{', '.join(most)} and {last}" if most else last
