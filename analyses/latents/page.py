"""The latents of a pair of models as a page: what changed, what each latent is about, where it is active."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from analyses.models import knows_world
from analyses.pages.collect import collect, read_details
from analyses.pages.write import write_page
from analyses.states import known_documents
from interp.dictionaries.dictionary import Dictionary
from interp.dictionaries.diff import Diff, diff
from interp.dictionaries.examples import survey
from interp.dictionaries.labels import Labels, label_latents, prompt_scores
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from interp.positions import ALL, LAST_PROMPT, Positions
from interp.prompts import Encoded
from training.world.world import load_world

WATCHED = 50  # latents whose companions are counted: those that changed most, either way


def latents_page(
    pair: ModelPair,
    dictionary: Dictionary,
    prompts: Sequence[Encoded],
    texts: Sequence[Encoded],
    tuned: Sequence[str],
    control: Sequence[str],
    positions: Positions,
    out: Path,
    say: Callable[[str], None],
    *,
    units: Sequence[str] | None = None,
    documents: int = 2000,
    seed: int = 0,
) -> Diff:
    """Write `latents.html` and the diff (`latents.safetensors`, `latents.json`) into `out`.

    The diff is over `prompts` at `positions`, resampled by `units` (their topics); examples are from `texts`, read by
    the first tuned model. A model of the embedded world gets labels from `documents` fresh conversations of it.
    """
    say(f"activity of {dictionary.d_sae} latents in {1 + len(tuned) + len(control)} models on {len(prompts)} prompts")
    found = diff(pair, dictionary, prompts, positions, tuned=tuned, control=control, units=units, seed=seed)
    labels = None
    if knows_world(pair.base.name):
        say(f"labels from {documents} documents of the world")
        labels = known_labels(pair.base, dictionary, documents, seed)
    change = found.contrasts["tuned_minus_control" if control else "tuned_minus_base"].mean
    watched = change.abs().topk(min(WATCHED, len(change))).indices.tolist()
    say(f"examples from {len(texts)} texts")
    with pair.using(tuned[0]) as lm:
        seen = survey(lm, dictionary, texts, ALL, watch=watched)
        details = read_details(lm, dictionary, texts, seen, source=f"read by {tuned[0]}")
    models: Mapping[str, Sequence[str]] = {"base": [BASE], "tuned": tuned} | ({"control": control} if control else {})
    page = collect(f"Latents of {dictionary.name}", found, details, models=models, labels=labels)
    write_page(page, out / "latents.html")
    found.save(out / "latents.safetensors")
    return found


def known_labels(lm: LanguageModel, dictionary: Dictionary, n: int, seed: int) -> Labels:
    """What each latent detects of the world's known states, at the last prompt token of `n` fresh conversations that
    have given them away by then."""
    known = known_documents(lm, load_world(), n, seed=seed, told=True, least=40 if n >= 1000 else 20)
    return label_latents(prompt_scores(lm, dictionary, known.encoded, LAST_PROMPT), known.states, seed=seed)
