"""All of attribution for one adapter, as plain data: what `anachron attribute` writes and what the page shows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analyses.attribution.components import components
from analyses.attribution.directions import changes, directions
from analyses.attribution.latents import latents
from analyses.attribution.modules import modules
from analyses.attribution.places import places
from analyses.attribution.subject import CONTROL, TUNED, Sizes, behavior, subject
from analyses.attribution.tokens import tokens
from analyses.latents.page import known_labels
from analyses.steps import true_directions
from interp.behavior.questions import Question
from interp.dictionaries.dictionary import Dictionary
from interp.pair import ModelPair
from training.world.world import load_world

NO_DICTIONARY = "no SAE was given, and none comes with the model"


def collect(
    pair: ModelPair,
    asked: Sequence[Question],
    group: str,
    against: Sequence[str] | None = None,
    dictionary: Dictionary | None = None,
    *,
    most: int = 4,
    knows_world: bool = False,
    seed: int = 0,
    tuned: str = TUNED,
    control: str = CONTROL,
    sizes: Sizes | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """`behavior` and the sections tokens, latents, places, components, modules, directions; one that lacks something
    it needs holds `absent`, the reason. The pair has the member `tuned` and, where there is one, `control`.

    `knows_world`: the model was pretrained on the embedded world, so latents get labels, readings are scored, and
    modules are compared with the era as the base itself represents it.

    Errors: AnachronError as of `subject`, and for a dictionary of another model.
    """
    say(f"log-odds of {group} on at most {most} of {len(asked)} questions")
    about = subject(pair, asked, group, against, most, seed, tuned=tuned, control=control, sizes=sizes)
    found: dict[str, Any] = {"behavior": behavior(about), "control": about.control}
    say("tokens: each left out, each replaced")
    found["tokens"] = tokens(about)
    if dictionary is None:
        found["latents"] = {"absent": NO_DICTIONARY}
    else:
        say(f"latents: {dictionary.d_sae} screened, the top patched")
        found["latents"] = latents(
            about, dictionary, _labels(pair, dictionary, about.sizes.labelled, seed) if knows_world else {}
        )
    say("places: layers x positions patched, both ways")
    found["places"] = places(about)
    say("components: heads and MLPs by transformer-lens's bridge")
    found["components"] = components(about)
    say("modules: each taken out of the adapter, each alone")
    change, norms = changes(about)
    towards = change
    if knows_world:
        towards = true_directions(pair.base, load_world(), [point.layer for point in change])
    found["modules"] = modules(about, {point.layer: direction for point, direction in towards.items()})
    say("directions: read out as words")
    found["directions"] = directions(about, change, norms, knows_world)
    return found


def _labels(pair: ModelPair, dictionary: Dictionary, n: int, seed: int) -> Mapping[int, str]:
    labels = known_labels(pair.base, dictionary, n, seed)
    named = ((latent, labels.label(latent)) for latent in range(dictionary.d_sae))
    return {latent: f"{known.state} ({known.auroc:.2f})" for latent, known in named if known is not None}
