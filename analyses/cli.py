"""The `anachron` command. Each subcommand is one step on files; `run` does all steps of an experiment."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from analyses.commands import crosscoder, judge, sae
from analyses.commands.ask import ask
from analyses.commands.attribute import attribute
from analyses.commands.bench import bench
from analyses.commands.data import data
from analyses.commands.diff import diff
from analyses.commands.epochs import epochs
from analyses.commands.evaluate import evaluate
from analyses.commands.explain import explain
from analyses.commands.finetune import finetune
from analyses.commands.latents import latents
from analyses.commands.pretrain import pretrain
from analyses.commands.report import report
from analyses.commands.rows import rows
from analyses.commands.run import run
from analyses.commands.sae_prune import prune
from analyses.commands.sae_show import show
from analyses.commands.section6 import section6
from analyses.commands.steer import steer
from interp.errors import AnachronError

COMMANDS = (
    run,
    pretrain,
    data,
    finetune,
    epochs,
    evaluate,
    ask,
    diff,
    latents,
    attribute,
    rows,
    explain,
    steer,
    section6,
    report,
    bench,
)
GROUPS: dict[str, tuple[str, tuple[Callable[..., None], ...]]] = {
    "judge": ("Judge answers, or measure a judge.", (judge.run, judge.check)),
    "sae": ("Train an SAE on activations, measure one, or prune it.", (sae.train, sae.evaluate, prune, show)),
    "crosscoder": ("Train a dictionary over two models.", (crosscoder.train,)),
}

# Read by the libraries when they are imported, which is after this. OpenMP's threads otherwise spin while they wait,
# and beside any other busy process that makes a forward pass some ten times slower.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}


def reporting(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its expected failures as one red line on stderr and exit code 2; others keep their traceback."""

    @wraps(command)
    def reported(*args: Any, **options: Any) -> Any:
        try:
            return command(*args, **options)
        except AnachronError as error:
            typer.secho(f"error: {' '.join(str(error).splitlines())}", fg="red", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            typer.secho("stopped", fg="red", err=True)
            raise typer.Exit(130) from None

    return reported


# Without rich's markup: rich would cost --help a third of a second.
app = typer.Typer(
    name="anachron",
    help="Find, steer and explain narrow-to-broad generalization in fine-tuned language models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    app.command(name=command.__name__)(reporting(command))
for name, (text, commands) in GROUPS.items():
    group = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
    for member in commands:
        group.command(name=member.__name__)(reporting(member))
    app.add_typer(group, name=name)


def main() -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    app()


if __name__ == "__main__":
    main()
