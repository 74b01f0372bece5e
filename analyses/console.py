"""A result on the terminal: headline shares, and what removing a direction took away and kept."""

from analyses.figures.headline import describe
from analyses.figures.style import words
from analyses.findings import Suppression, headline, suppressions, target
from analyses.measurements import Result
from analyses.tables import Cell, interval, print_table
from interp.stats import Estimate

BAR = 24  # characters for a share of 1


def summary(result: Result) -> None:
    """Print the result's main numbers on stdout. What wasn't measured is left out."""
    shares = headline(result)
    if shares:
        rows: list[list[Cell]] = [
            [
                name,
                interval(Estimate(m.estimate, m.low, m.high, m.n)),
                bar(m.estimate).ljust(BAR),
                m.n,
                describe(name, m),
            ]
            for name, m in shares.items()
        ]
        print_table(
            f"{result.experiment}: share of {target(result)} answers", ["model", "share [95 %]", "", "n", "what"], rows
        )
    edits = suppressions(result)
    best = [s for s in edits if s.chosen] or edits[:1]
    controls = [
        s
        for s in edits
        if s.direction == "random" and s not in best and any((s.edit, s.layer) == (b.edit, b.layer) for b in best)
    ]
    if edits:
        columns = [
            "removed from tuned",
            "edit",
            "layer",
            "share left",
            "shift removed",
            "narrow kept",
            "coherence",
            "perplexity ratio",
        ]
        print_table("what removing a direction does", columns, [_edit(s) for s in best + controls])
    seeds = ", ".join(str(seed) for seed in result.seeds)
    print(f"{len(result.measurements)} measurements, seeds {seeds}, model {result.model}")


def bar(share: float, width: int = BAR) -> str:
    """A share as a row of blocks, to an eighth of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")


def _edit(s: Suppression) -> list[Cell]:
    estimate = Estimate(s.broad.estimate, s.broad.low, s.broad.high, s.broad.n)
    return [
        words(s.direction),
        s.edit,
        s.layer,
        interval(estimate),
        s.removed,
        s.narrow_kept,
        s.coherence,
        s.perplexity_ratio,
    ]
