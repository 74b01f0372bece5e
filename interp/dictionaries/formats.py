"""Loading SAEs that others trained, whatever their files look like: found, read, and checked against a model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interp.dictionaries import dictionary_learning, gemma_scope, llama_scope, saelens_format, single_file
from interp.dictionaries.published import Published
from interp.dictionaries.releases import Release, is_release, release_of
from interp.dictionaries.sae import registered
from interp.dictionaries.weights import Sae
from interp.errors import AnachronError
from interp.files import digest
from interp.hooks import HookPoint
from interp.hub import cached_id, is_hub_id, snapshot
from interp.models import LanguageModel

# format -> the files of its folder, the weights first, and who reads them
FORMATS: dict[str, tuple[tuple[str, ...], Callable[[Path], Published]]] = {
    "sae_lens": ((saelens_format.WEIGHTS, saelens_format.CONFIG), saelens_format.read),
    "dictionary_learning": ((dictionary_learning.WEIGHTS, dictionary_learning.CONFIG), dictionary_learning.read),
    "gemma_scope": ((gemma_scope.WEIGHTS,), gemma_scope.read),
    "gemma_scope_2": ((gemma_scope.WEIGHTS_2, gemma_scope.CONFIG_2), gemma_scope.read_2),
    "llama_scope": ((llama_scope.WEIGHTS, llama_scope.CONFIG), llama_scope.read),
}
_ALIASES = {"gpt2-small": "gpt2"}  # TransformerLens's names that aren't the end of a hub id


@dataclass(frozen=True)
class _Located:
    """A folder on disk that holds an SAE, or the one file that is one, and where it comes from."""

    path: Path
    revision: str | None = None
    release: Release | None = None


def load_dictionary(
    source: str | Path,
    *,
    lm: LanguageModel | None = None,
    layer: int | None = None,
    revision: str | None = None,
    any_model: bool = False,
) -> Sae:
    """Load an SAE on the CPU in fp32, and check that it belongs to a model and layer.

    source: a registered name (almanac); a local folder, or the weights in it, or a file that is a whole SAE;
    `owner/name` or `owner/name/sub/folder` of the hub, pinned by `revision`; or `release:id` of sae-lens's table, such
    as gemma-scope-2b-pt-res:layer_20/width_16k/average_l0_71. The format is found by the names of the files. lm: the
    model whose activations it will be given. layer: the block it has to be of; needed where its files don't say.
    any_model: take an SAE of a model with another name.

    Errors: AnachronError for an id out of reach (within seconds), no or several formats in a folder, files missing,
    truncated, NaN, of unequal sizes or of an SAE that isn't read; another width, layer (with both numbers) or model.
    """
    located = _locate(str(source), revision)
    published = _read(located)
    model = published.model or (located.release.model if located.release else None)
    point = _point(published, layer)
    d_sae, d_model = published.weights["W_dec"].shape
    checked = "no model given" if lm is None else _check_model(published, point, d_model, model, lm, any_model)
    digests = {file.name: digest(file) for file in published.files}
    identity = {
        "format": published.format,
        "architecture": published.architecture,
        "activation": published.weights["activation"],
        "digest": digest("".join(digests.values()).encode()),
        "files": digests,
        "source": str(source),
        "revision": located.revision,
        "model": model,
        "model_checked": checked,
        "hook": published.hook,
        "point": str(point),
        "d_model": d_model,
        "d_sae": d_sae,
        "k": published.weights.get("k"),
    }
    return Sae(name=str(source), point=point, identity=identity, **published.weights)


def detect(folder: Path) -> str:
    """The format of a folder: a key of FORMATS.

    Errors: AnachronError unless it is exactly one, naming the file that is missing or the folders below to choose from.
    """
    found = [name for name, (files, _) in FORMATS.items() if all((folder / file).is_file() for file in files)]
    if len(found) == 1:
        return found[0]
    if found:
        raise AnachronError(f"{folder}: files of {' and '.join(found)}; keep one SAE in a folder")
    for name, (files, _) in FORMATS.items():
        if (folder / files[0]).is_file():
            lacking = ", ".join(file for file in files if not (folder / file).is_file())
            raise AnachronError(f"{folder}: {files[0]} without {lacking}, as an SAE of {name} has; copy both")
    weights = {Path(files[0]).name: len(Path(files[0]).parts) for files, _ in FORMATS.values()}
    below = sorted({str(p.parents[weights[p.name] - 1]) for p in folder.rglob("*") if p.name in weights})
    if below:
        raise AnachronError(f"{folder}: {len(below)} SAEs in folders below; name one, as {', '.join(below[:3])}")
    layouts = "; ".join(f"{' and '.join(files)} ({name})" for name, (files, _) in FORMATS.items())
    raise AnachronError(f"{folder}: no SAE in it; a folder holds {layouts}")


def _read(located: _Located) -> Published:
    if located.path.is_file():
        return single_file.read(located.path)
    kind = detect(located.path)
    if kind == "sae_lens" and located.release is not None:
        return saelens_format.read(located.path, located.release.overrides)
    return FORMATS[kind][1](located.path)


def _locate(source: str, revision: str | None) -> _Located:
    own = registered()
    path = own[source] if source in own else Path(source).expanduser()
    if path.exists():
        if revision is not None:
            raise AnachronError(f"revision {revision!r} given for {source}; only hub ids have revisions: leave it out")
        if path.is_dir() or single_file.is_single(path.name):
            return _Located(path)
        return _Located(path.parents[1] if path.parent.name == "checkpoints" else path.parent)
    if is_release(source):
        release = release_of(source)
        folder, commit = _download(release.repository, release.folder, revision)
        return _Located(folder, commit, release)
    owner, _, rest = source.partition("/")
    name, _, below = rest.partition("/")
    if not name or not is_hub_id(f"{owner}/{name}"):
        raise AnachronError(
            f"{source}: no such folder; give a local folder, a hub id (owner/name/sub/folder), or release:id of "
            "sae-lens's table"
        )
    return _Located(*_download(f"{owner}/{name}", below.strip("/"), revision))


def _download(repository: str, below: str, revision: str | None) -> tuple[Path, str]:
    """The folder or single file `below` of a hub repository, and the commit."""
    names = sorted({file for files, _ in FORMATS.values() for file in files})
    patterns = [f"{below}/{name}" if below else name for name in names]
    if single_file.is_single(Path(below).name):
        patterns = [below]
    root, commit = snapshot(repository, revision, patterns, lambda folder: _check(folder / below), unwanted=())
    return root / below, commit


def _check(path: Path) -> None:
    if not single_file.is_single(path.name):
        detect(path)
    elif not path.is_file():
        raise AnachronError(f"{path}: no such file; check the name")


def _point(published: Published, layer: int | None) -> HookPoint:
    point = published.point
    file = published.files[-1]
    if point is None and layer is None:
        raise AnachronError(f"{file}: its files don't say of which layer it is; give layer=")
    if point is None:
        return HookPoint(int(layer or 0))
    if layer not in (None, point.layer):
        raise AnachronError(
            f"{file}: the SAE is of layer {point.layer} ({published.hook}), and layer {layer} was asked for; take the "
            f"SAE of layer {layer}, or ask for {point.layer}"
        )
    return point


def _check_model(
    published: Published, point: HookPoint, d_model: int, model: str | None, lm: LanguageModel, any_model: bool
) -> str:
    """How the model was compared with the one that the SAE names: "name", "unnamed" by the files, or "overridden"."""
    file = published.files[0]
    if d_model != lm.d_model:
        raise AnachronError(
            f"{file}: the SAE is of d_model {d_model}, and {lm.name} has {lm.d_model}; take one of this model"
        )
    if point.layer >= lm.n_layers:
        raise AnachronError(
            f"{file}: the SAE is of layer {point.layer}, and {lm.name} has {lm.n_layers} (0 to {lm.n_layers - 1}); "
            "take one of this model"
        )
    if model is None:
        return "unnamed"
    ours = cached_id(lm.name) or lm.name
    if _short(model) == _short(ours):
        return "name"
    if any_model:
        return "overridden"
    raise AnachronError(
        f"{file}: the SAE was trained on {model}, and the model is {ours}; load {model}, or pass any_model=True "
        "(--any-model) if it is a copy, or if another model's SAE is what you want"
    )


def _short(model: str) -> str:
    """The last part of a model's name or path, in small letters."""
    last = Path(model).name.lower()
    return _ALIASES[last] if last in _ALIASES else last
