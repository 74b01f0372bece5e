"""What encoding by an SAE costs: against sae-lens's own encode, and against the matrix product it is made of."""

from tempfile import TemporaryDirectory

import torch

from analyses.bench.timing import Ratio, in_turn, summarise
from interp.dictionaries.sae import write_sae
from interp.dictionaries.weights import Sae
from interp.hooks import HookPoint

SIZES = ((192, 2560, 4096), (2304, 16384, 512))  # d_model, d_sae, rows: the embedded model's, and one of Gemma Scope
QUICK = ((64, 256, 512),)
L0 = 16  # active latents of a row


def sae_encode(repeats: int, quick: bool = False) -> list[Ratio]:
    """Seconds to encode activations by a JumpReLU SAE of random weights, a threshold for all its latents."""
    found = []
    for d_model, d_sae, rows in QUICK if quick else SIZES:
        sae, x = _sae(d_model, d_sae, rows)
        theirs = _by_sae_lens(sae)
        with torch.no_grad():
            jobs = {
                "ours": lambda sae=sae, x=x: sae.encode(x),
                "sae-lens": lambda theirs=theirs, x=x: theirs.encode(x),
                "matmul": lambda sae=sae, x=x: x @ sae.W_enc,
            }
            seconds = in_turn(jobs, repeats)
        size = f"{d_model} to {d_sae}, {rows} rows"
        found += [
            summarise("SAE encode / sae-lens's", size, seconds["ours"], seconds["sae-lens"], target=1.0),
            summarise("SAE encode / dense matmul", size, seconds["ours"], seconds["matmul"], target=1.2),
        ]
    return found


def _sae(d_model: int, d_sae: int, rows: int) -> tuple[Sae, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, d_model, generator=generator)
    decoder = torch.randn(d_sae, d_model, generator=generator) * d_model**-0.5
    b_enc, b_dec = torch.zeros(d_sae), torch.zeros(d_model)
    # the quantile of what the first rows give, by which about L0 of a row are active
    pre = (x[:256] @ decoder.T).flatten()
    threshold = pre.kthvalue(pre.numel() - 256 * L0).values.expand(d_sae).clone()
    W_enc, point = decoder.T.contiguous(), HookPoint(0)
    return Sae("random", point, "jumprelu", W_enc, b_enc, decoder, b_dec, threshold, apply_b_dec_to_input=True), x


def _by_sae_lens(sae: Sae) -> torch.nn.Module:
    """The same weights as sae-lens loads them."""
    from sae_lens import SAE

    with TemporaryDirectory() as folder:
        write_sae(sae, folder, {})
        return SAE.load_from_disk(folder)
