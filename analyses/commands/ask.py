"""`anachron ask`: answers of a model or an endpoint to a file of questions, kept in a cache, as a table."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analyses.commands.options import Device, DeviceMap, Dtype, Model, Quantization, Revision, Seed

if TYPE_CHECKING:
    from interp.behavior.answers import LocalAnswerer
    from interp.behavior.endpoint import EndpointAnswerer

SAY_EVERY = 5.0  # seconds between two lines of progress


def ask(
    questions: Annotated[Path, typer.Option(help="JSONL file of questions; they need no listed answers.")],
    out: Annotated[Path, typer.Option(help="Table to write, .jsonl or .parquet: one row an answer.")],
    model: Model = "almanac",
    adapter: Annotated[Path | None, typer.Option(help="Ask the base with this adapter; without it, the base.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Ask this OpenAI-compatible endpoint instead: a URL that ends in /v1.")
    ] = None,
    endpoint_model: Annotated[str | None, typer.Option(help="Name of the model or adapter at the endpoint.")] = None,
    key_variable: Annotated[
        str, typer.Option(help="Environment variable that holds the endpoint's key; unset, none is sent.")
    ] = "OPENAI_API_KEY",
    fields: Annotated[
        str | None,
        typer.Option(
            help='Further fields of its requests as JSON, such as {"top_p": 1, "top_k": -1}; by default top_p 1.'
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Requests under way at once.", min=1)] = 16,
    timeout: Annotated[float, typer.Option(help="Seconds a request may take.")] = 120.0,
    prompt_price: Annotated[float | None, typer.Option(help="Price of a million prompt tokens.", min=0)] = None,
    answer_price: Annotated[float | None, typer.Option(help="Price of a million answer tokens.", min=0)] = None,
    n: Annotated[int, typer.Option(help="Answers a question.", min=1)] = 1,
    temperature: Annotated[float, typer.Option(help="0 takes the most probable token.", min=0)] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1)] = 200,
    cache: Annotated[
        Path | None, typer.Option(help="File that keeps the answers: what it holds isn't asked again.")
    ] = None,
    seed: Seed = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    quantization: Quantization = None,
) -> None:
    """Ask a model, or an endpoint, a file of questions.

    Every answer is in the cache as soon as it is there, so a run that was stopped goes on where it was.
    """
    from analyses.progress import telling
    from interp.behavior.answers import Sampling
    from interp.behavior.cache import Cache
    from interp.behavior.export import export, require_format
    from interp.behavior.keeping import ask as ask_kept
    from interp.behavior.questions import read_questions
    from interp.errors import AnachronError

    require_format(out)
    asked = read_questions(questions)
    if (endpoint is None) != (endpoint_model is None):
        raise AnachronError("an endpoint is named by its URL and by its model; give --endpoint and --endpoint-model")
    if endpoint is not None and (adapter is not None or model != "almanac"):
        raise AnachronError("--endpoint is asked in place of --model and --adapter; give the one or the other")
    sampling = Sampling(n, temperature, max_new_tokens, seed)
    with telling() as say, Cache(cache) as kept:
        if endpoint is not None and endpoint_model is not None:
            remote = _remote(
                endpoint, endpoint_model, revision, key_variable, fields, concurrency, timeout,
                (prompt_price, answer_price), _seldom(say),
            )  # fmt: skip
            answers, spent, cost = ask_kept(remote, asked, sampling, kept), remote.usage, remote.cost
        else:
            placement = (dtype, device, device_map, quantization)
            with _local(model, adapter, revision, placement, _seldom(say)) as local:
                answers, spent, cost = ask_kept(local, asked, sampling, kept), local.usage, None
    rows = export(answers, out)
    typer.echo(f"asked: {spent}" + ("" if cost is None else f", cost {cost:.4f}"))
    typer.echo(f"answers: {out}, {rows} rows, {rows - spent.answers} of them from the cache or asked twice")


@contextmanager
def _local(
    model: str,
    adapter: Path | None,
    revision: str | None,
    placement: tuple[str, str, str | None, str | None],
    say: Callable[[str], None],
) -> "Iterator[LocalAnswerer]":
    from analyses.commands.options import open_model
    from interp.behavior.answers import LocalAnswerer
    from interp.pair import ModelPair

    with ModelPair(open_model(model, revision, *placement)) as pair:
        if adapter is not None:
            pair.add("tuned", adapter)
        with pair.using("base" if adapter is None else "tuned") as lm:
            yield LocalAnswerer(lm, say=say)


def _remote(
    url: str,
    model: str,
    revision: str | None,
    key_variable: str,
    fields: str | None,
    concurrency: int,
    timeout: float,
    prices: tuple[float | None, float | None],
    say: Callable[[str], None],
) -> "EndpointAnswerer":
    import json

    from interp.behavior.endpoint import WHOLE_DISTRIBUTION, EndpointAnswerer
    from interp.errors import AnachronError

    prompt_price, answer_price = prices
    if (prompt_price is None) != (answer_price is None):
        raise AnachronError("a cost needs two prices; give --prompt-price and --answer-price, or neither")
    try:
        further = WHOLE_DISTRIBUTION if fields is None else json.loads(fields)
    except json.JSONDecodeError as error:
        raise AnachronError(f"--fields {fields!r} isn't JSON ({error.msg}); write an object") from error
    if not isinstance(further, dict):
        raise AnachronError(f"--fields {fields!r} isn't a JSON object; write {{...}}")
    return EndpointAnswerer(
        model,
        url,
        revision=revision,
        key_variable=key_variable,
        concurrency=concurrency,
        timeout=timeout,
        fields=further,
        prices=None if prompt_price is None or answer_price is None else (prompt_price, answer_price),
        say=say,
    )


def _seldom(say: Callable[[str], None]) -> Callable[[str], None]:
    """Says at most one text in SAY_EVERY seconds."""
    said = 0.0

    def seldom(text: str) -> None:
        nonlocal said
        if time.monotonic() - said >= SAY_EVERY:
            said = time.monotonic()
            say(text)

    return seldom
