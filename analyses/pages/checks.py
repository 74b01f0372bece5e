"""What a page refuses: data that would be shown wrong, named by latent."""

import math
from collections.abc import Iterable
from itertools import pairwise

from analyses.pages.data import Detail, LatentRow, Page
from interp.errors import AnachronError


def check_rows(page: Page) -> None:
    """Refuse (AnachronError) a page whose table would lie: ids twice, models missing, numbers out of their range."""
    if not page.rows:
        raise AnachronError("a page of latents without rows; give at least one latent")
    for what, names in (("models", page.models), ("contrasts", page.contrasts)):
        if len(set(names)) != len(names):
            raise AnachronError(f"{what} of the page hold a name twice ({', '.join(names)}); name each once")
    seen: set[int] = set()
    for row in page.rows:
        if row.latent < 0 or row.latent in seen:
            raise AnachronError(f"latent {row.latent} is negative or stands in two rows; give each latent one row")
        seen.add(row.latent)
        _check_row(page, row)


def _check_row(page: Page, row: LatentRow) -> None:
    for what, found, names in (
        ("mean", row.mean, page.models),
        ("frequency", row.frequency, page.models),
        ("contrasts", row.contrasts, page.contrasts),
    ):
        if set(found) != set(names):
            raise AnachronError(
                f"latent {row.latent}: {what} has {_listed(found)}, the page {_listed(names)}; give every row the same"
            )
    _require(row.latent, "mean activation", row.mean.values(), 0.0, math.inf)
    _require(row.latent, "frequency", row.frequency.values(), 0.0, 1.0)
    _require(row.latent, "AUROC", (label.auroc for label in row.labels), 0.0, 1.0)
    for name, contrast in row.contrasts.items():
        _require(row.latent, f"{name}: q", [contrast.q], 0.0, 1.0)
        bounds = (contrast.low, contrast.estimate, contrast.high)
        _require(row.latent, name, bounds, -math.inf, math.inf)
        if contrast.low > contrast.high:
            raise AnachronError(
                f"latent {row.latent}: {name} has the interval [{contrast.low}, {contrast.high}]; give low before high"
            )


def check_detail(latent: int, detail: Detail, latents: set[int]) -> None:
    """Refuse (AnachronError) a detail whose parts don't fit each other or which names latents the page lacks."""
    for i, example in enumerate(detail.examples):
        if len(example.tokens) != len(example.values) or not example.tokens:
            raise AnachronError(
                f"latent {latent}: example {i} has {len(example.tokens)} tokens and {len(example.values)} values; "
                "give one value a token, and at least one token"
            )
        _require(latent, f"activation in example {i}", example.values, 0.0, math.inf)
    if detail.histogram is not None:
        edges, counts = detail.histogram.edges, detail.histogram.counts
        if len(edges) != len(counts) + 1 or any(a >= b for a, b in pairwise(edges)):
            raise AnachronError(
                f"latent {latent}: a histogram of {len(counts)} counts and {len(edges)} edges; give ascending edges, "
                "one more than counts"
            )
        _require(latent, "edge of the histogram", edges, -math.inf, math.inf)
        _require(latent, "count of the histogram", map(float, counts), 0.0, math.inf)
    for tokens in (detail.promoted, detail.suppressed):
        _require(latent, "effect on a token", (value for _, value in tokens), -math.inf, math.inf)
    _require(latent, "co-activity", (value for _, value in detail.coactive), -math.inf, math.inf)
    for other, _ in detail.coactive:
        if other not in latents:
            raise AnachronError(f"latent {latent}: co-active latent {other} has no row on the page; leave it out")


def _require(latent: int, what: str, values: Iterable[float], low: float, high: float) -> None:
    for value in values:
        if not (math.isfinite(value) and low <= value <= high):
            raise AnachronError(
                f"latent {latent}: {what} is {value}, which isn't a number from {low:g} to {high:g}; measure it again"
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
