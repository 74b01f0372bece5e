"""The decoder of a published dictionary, read from file: all that the recipe uses of one."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from interp.dictionaries.dictionary_learning import layer_of
from interp.dictionaries.published import read_pt, refuse_non_finite
from interp.errors import AnachronError
from interp.files import digest, load_tensors

# name of the decoder in a file -> whether its rows are the model's dimensions, so that it is turned round
_NAMES = {"decoder.weight": True, "W_dec": False, "decoder": False}
_LAYOUT = "decoder.weight [d_model, d_sae] (dictionary_learning), W_dec or decoder [d_sae, d_model]"
_CHUNK = 8192  # rows at a time: a decoder of gigabytes is never copied whole


@dataclass(frozen=True, eq=False)
class Decoder:
    """Row j is what latent j writes into the residual stream; rows aren't normalised. `layer` is the block that the
    dictionary was trained on, None where its files don't say."""

    rows: Float[Tensor, "d_sae d_model"] = field(repr=False)
    file: Path
    sha256: str
    layer: int | None = None

    def cosines(self, vector: Float[Tensor, " d_model"]) -> Float[Tensor, " d_sae"]:
        """Cosine of `vector` with every row, fp32; 0 for a row of zeros."""
        unit = (vector.double() / vector.double().norm()).float().cpu()
        parts = []
        for rows in self.rows.split(_CHUNK):
            rows = rows.float()
            parts.append(rows @ unit / rows.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny))
        return torch.cat(parts)


def read_decoder(path: str | Path, d_model: int, layer: int) -> Decoder:
    """Read a decoder: a folder or file in dictionary_learning's layout (ae.pt beside config.json), or safetensors.

    Errors: AnachronError for a missing, broken or unknown file, a decoder of another width (both numbers), or a
    dictionary whose config.json names another layer.
    """
    file = _file_of(Path(path).expanduser())
    tensors = _tensors(file)
    found = [name for name in _NAMES if name in tensors]
    if len(found) != 1 or tensors[found[0]].dim() != 2:
        raise AnachronError(f"{file}: holds {sorted(tensors)[:6]}, not one decoder; it needs {_LAYOUT}")
    rows = tensors[found[0]].T if _NAMES[found[0]] else tensors[found[0]]
    if rows.shape[1] != d_model:
        raise AnachronError(
            f"{file}: {found[0]} is {list(tensors[found[0]].shape)}, so it writes {rows.shape[1]} dimensions, and the "
            f"model's residual stream has {d_model}; take a dictionary of this model, stored as {_LAYOUT}"
        )
    refuse_non_finite(file, found[0], rows)
    trained_on = layer_of(file.with_name("config.json"))
    if trained_on not in (None, layer):
        raise AnachronError(
            f"{file.with_name('config.json')}: the dictionary is of block {trained_on}, not of {layer}; give "
            f"--layer {trained_on}, or the dictionary of block {layer}"
        )
    return Decoder(rows, file, digest(file), trained_on)


def _file_of(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise AnachronError(
            f"{path}: no such file or folder; download the dictionary first and give the folder that holds its ae.pt"
        )
    found = sorted([*path.glob("ae.pt"), *path.glob("*.safetensors")])
    if len(found) != 1:
        raise AnachronError(
            f"{path}: {len(found)} files that could be a decoder ({', '.join(f.name for f in found) or 'ae.pt or '}"
            f"{'' if found else '*.safetensors is wanted'}); name the file"
        )
    return found[0]


def _tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return load_tensors(file)[0]
    return read_pt(file)  # mapped: the encoder beside the decoder is never read
