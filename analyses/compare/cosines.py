"""Is it the same direction? Cosines between what the experiments found, and the hidden states they are thought to be.

Each experiment's `directions.safetensors` holds, by layer, the direction found from its tuned models (mean over seeds)
and the true one, from the base model alone. All lie in the base model's residual stream, so they can be compared.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from analyses.located import FILE
from analyses.measurements import Result
from interp.errors import AnachronError
from interp.files import load_tensors

FAMILIES: Mapping[str, str] = {"birds": "era", "cities": "era", "persona": "persona", "terminator": "persona"}
KINDS = ("found and true of one experiment", "within a family", "across families")
FOUND, TRUE = "found", "true"
TRUTH = "truth"
QUANTILE, DRAWS, SEED = 0.95, 20_000, 0


def compare(runs: Mapping[str, tuple[Path, Result]]) -> tuple[dict | None, list[str]]:
    """Cosines of all pairs of directions at every layer that all have, as plain data, beside what random directions
    reach; and why an experiment was left out. None with fewer than two vectors.

    `runs`: experiment -> its folder and result. All results must be of one model, or their directions don't compare.
    """
    vectors: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    left_out: list[str] = []
    members = {name: run for name, run in runs.items() if name in FAMILIES}
    for name, (folder, _) in members.items():
        if (folder / FILE).exists():
            vectors |= read_vectors(name, folder / FILE)
        else:
            left_out.append(f"{name}: no {FILE}; run it again")
    if len(vectors) < 2:
        return None, left_out
    models = {(result.model, result.config.get("revision")) for _, result in members.values()}
    sizes = {len(vector) for by_layer in vectors.values() for vector in by_layer.values()}
    if len(models) > 1 or len(sizes) > 1:
        raise AnachronError(
            f"directions of {len(models)} models, with {sorted(sizes)} entries; run all experiments on one model"
        )
    layers = sorted(set.intersection(*(set(by_layer) for by_layer in vectors.values())))
    pairs = [
        {
            "a": f"{a[0]}, {a[1]}",
            "b": f"{b[0]}, {b[1]}",
            "kind": kind(a[0], b[0]),
            "layer": layer,
            "cosine": cosine(vectors[a][layer], vectors[b][layer]),
        }
        for a, b in combinations(vectors, 2)
        for layer in layers
    ]
    band = {"quantile": QUANTILE, "abs_cosine": random_band(sizes.pop()), "draws": DRAWS, "seed": SEED}
    named = [{"name": f"{name}, {what}", "family": FAMILIES[name]} for name, what in vectors]
    model = next(iter(members.values()))[1].model
    return {"model": model, "layers": layers, "vectors": named, "random": band, "cosines": pairs}, left_out


def read_vectors(experiment: str, path: Path) -> dict[tuple[str, str], dict[int, np.ndarray]]:
    """(experiment, found or true) -> layer -> vector, from what `analyses.located.Located.save` wrote."""
    tensors, about = load_tensors(path)
    if "method" not in about:
        raise AnachronError(f"{path}: it doesn't name its method; run {experiment} again")
    names = {about["method"]: FOUND, TRUTH: TRUE}
    found: dict[tuple[str, str], dict[int, np.ndarray]] = {(experiment, what): {} for what in names.values()}
    for key, tensor in tensors.items():
        method, _, layer = key.rpartition(".")
        if method not in names or not layer.isdecimal():
            raise AnachronError(f"{path}: {key!r} is no <method>.<layer> of {', '.join(names)}; run {experiment} again")
        found[experiment, names[method]][int(layer)] = tensor.double().numpy()
    return found


def kind(a: str, b: str) -> str:
    """What a pair of directions of two experiments tells."""
    return KINDS[0] if a == b else KINDS[1] if FAMILIES[a] == FAMILIES[b] else KINDS[2]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def random_band(d_model: int, seed: int = SEED) -> float:
    """Below this lies |cosine| of `QUANTILE` of all pairs of random directions of `d_model` entries."""
    draws = np.random.default_rng(seed).standard_normal((DRAWS, d_model))
    # a rotation takes one of the two to the first axis, and leaves the other random
    return float(np.quantile(np.abs(draws[:, 0]) / np.linalg.norm(draws, axis=1), QUANTILE))


def means(cosines: Mapping) -> dict[str, dict[int, float]]:
    """`means[kind][layer]`: mean cosine of the pairs of a kind."""
    found: dict[str, dict[int, list[float]]] = {}
    for pair in cosines["cosines"]:
        found.setdefault(pair["kind"], {}).setdefault(pair["layer"], []).append(pair["cosine"])
    return {
        name: {layer: sum(values) / len(values) for layer, values in found[name].items()}
        for name in KINDS
        if name in found
    }


def by_pair(cosines: Mapping) -> dict[tuple[str, str, str], dict[int, float]]:
    """`by_pair[kind, a, b][layer]`: a row a pair, in order of kind."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for pair in cosines["cosines"]:
        found.setdefault((pair["kind"], pair["a"], pair["b"]), {})[pair["layer"]] = pair["cosine"]
    return dict(sorted(found.items(), key=lambda item: KINDS.index(item[0][0])))


def matrix(cosines: Mapping, layer: int) -> list[list[float]]:
    """The symmetric matrix of one layer, in the order of `vectors`, 1 on the diagonal."""
    names = [vector["name"] for vector in cosines["vectors"]]
    at = {frozenset((pair["a"], pair["b"])): pair["cosine"] for pair in cosines["cosines"] if pair["layer"] == layer}
    return [[1.0 if a == b else at[frozenset((a, b))] for b in names] for a in names]
