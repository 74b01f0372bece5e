"""`anachron sae show`: what an SAE is, from its files, and whether it fits a model."""

from typing import TYPE_CHECKING, Annotated

import typer

from analyses.commands.options import Dtype, Revision

if TYPE_CHECKING:
    from interp.dictionaries.weights import Sae


def show(
    source: Annotated[
        str, typer.Argument(help="A folder, owner/name/sub/folder of the hub, or release:id of sae-lens's table.")
    ],
    model: Annotated[
        str | None, typer.Option(help="A model to check it against: almanac, a folder, or a hub id.")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="The block it has to be of.", min=0)] = None,
    any_model: Annotated[bool, typer.Option("--any-model", help="Take an SAE of a model with another name.")] = False,
    revision: Revision = None,
    dtype: Dtype = "auto",
) -> None:
    """Print format, architecture, sizes, thresholds and norms of an SAE, and what it says it was trained on.

    anachron sae show llama-3.1-8b-instruct-andyrdt:resid_post_layer_19_trainer_1
    """
    from analyses.commands.options import open_model
    from analyses.tables import print_table
    from interp.dictionaries.formats import load_dictionary

    lm = None if model is None else open_model(model, None, dtype, "cpu")
    sae = load_dictionary(source, lm=lm, layer=layer, revision=revision, any_model=any_model)
    said = {name: value for name, value in sae.identity.items() if name not in ("files", "source")}
    print_table(source, ("", "value"), [(name, _text(value)) for name, value in said.items()])
    print_table("files", ("", "sha256"), list(sae.identity["files"].items()))
    print_table("weights", ("", "least", "median", "most"), _ranges(sae))


def _ranges(sae: "Sae") -> list[tuple[str, float, float, float]]:
    """Least, median and greatest of what tells whether weights are sound."""
    parts = {
        "norm of decoder row": sae.W_dec.norm(dim=1),
        "norm of encoder column": sae.W_enc.norm(dim=0),
        "bias of encoder": sae.b_enc,
        "bias of decoder": sae.b_dec,
    }
    if sae.threshold is not None:
        parts["threshold"] = sae.threshold.reshape(-1)
    return [(name, float(t.min()), float(t.median()), float(t.max())) for name, t in parts.items()]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
