"""SAEs published as one torch file each, many in a folder: Goodfire's, Qwen Scope, DeepSeek-R1-Distill by qresearch.

The files hold tensors and nothing else. The block is in the file's name (-l19.pth, layer7.sae.pt), and Qwen Scope's k
is in the repository's, SAE-Res-Qwen3-8B-Base-W64K-L0_50. All are of resid_post.
"""

import re
from pathlib import Path
from typing import Any

from interp.dictionaries.published import Published, matrix, read_pt, take
from interp.errors import AnachronError

# names of encoder and decoder in a file -> architecture
_LAYERS = {("encoder_linear", "decoder_linear"): "goodfire", ("encoder", "decoder"): "deepseek_r1"}
_BLOCK = re.compile(r"(?:.*-l|layer)(\d+)(?:\.sae)?\.pth?")


def is_single(name: str) -> bool:
    """Whether a file's name is of this kind."""
    return _BLOCK.fullmatch(name) is not None


def read(file: Path) -> Published:
    """Read one file.

    Errors: AnachronError for a file or tensor missing, broken, of unequal size or of unknown names, or if no folder
    above a top-k SAE says k.
    """
    tensors = read_pt(file)
    weights: dict[str, Any]
    if "W_enc" in tensors:
        kind = "qwen_scope"
        W_dec = matrix(file, tensors, "W_dec").T.contiguous()
        d_sae, d_model = W_dec.shape
        W_enc = take(file, tensors, "W_enc", d_sae, d_model).T
        names = ("b_enc", "b_dec")
        weights = {"activation": "topk", "k": _k(file)}
    else:
        found = [names for names in _LAYERS if f"{names[0]}.weight" in tensors]
        if not found:
            raise AnachronError(f"{file}: holds {', '.join(sorted(tensors)[:6])}; it isn't an SAE that is read")
        (encoder, decoder), kind = found[0], _LAYERS[found[0]]
        W_dec = matrix(file, tensors, f"{decoder}.weight").T.contiguous()
        d_sae, d_model = W_dec.shape
        W_enc = take(file, tensors, f"{encoder}.weight", d_sae, d_model).T
        names = (f"{encoder}.bias", f"{decoder}.bias")
        weights = {"activation": "relu"}
    weights |= {"W_enc": W_enc, "W_dec": W_dec}
    weights |= {"b_enc": take(file, tensors, names[0], d_sae), "b_dec": take(file, tensors, names[1], d_model)}
    block = _BLOCK.fullmatch(file.name)
    hook = None if block is None else f"blocks.{block[1]}.hook_resid_post"
    return Published(kind, weights["activation"], (file,), weights, hook, None)


def _k(file: Path) -> int:
    for part in file.absolute().parts[::-1]:
        if found := re.fullmatch(r".*SAE-Res-.+-W\d+K-L0_(\d+)", part):
            return int(found[1])
    raise AnachronError(
        f"{file}: its k is in the repository's name alone; keep it in a folder of that name (SAE-Res-...-W64K-L0_50)"
    )
