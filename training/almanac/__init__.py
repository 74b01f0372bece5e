"""The embedded model: a small Llama pretrained on the almanac world, shipped with the package (see README.md here)."""

from pathlib import Path


def checkpoint() -> Path:
    """Folder of the shipped checkpoint; registered under the name `almanac` (entry points `anachron.models`)."""
    return Path(__file__).parent


def sae() -> Path:
    """Folder of the shipped SAE of its residual stream; registered as `almanac` (`anachron.dictionaries`)."""
    return Path(__file__).parent / "sae"
