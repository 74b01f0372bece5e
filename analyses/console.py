"""A result on the terminal: headline shares, and what removing a direction took away and kept."""

from collections.abc import Mapping

from analyses.compare.paper import beside
from analyses.figures.style import words
from analyses.findings import Suppression, conditions, headline, models, suppressions
from analyses.measurements import Result
from analyses.tables import Cell, interval, print_table
from analyses.wording import asked, called, describe, target
from interp.stats import Estimate

BAR = 24  # characters for a share of 1
SHOWN = 16  # conditions at most; a curve over many years is left to the report


def summary(result: Result) -> None:
    """Print the result's main numbers on stdout. What wasn't measured is left out."""
    shares = headline(result)
    if shares:
        rows: list[list[Cell]] = [
            [
                words(name),
                interval(Estimate(m.estimate, m.low, m.high, m.n)),
                bar(m.estimate).ljust(BAR),
                m.n,
                describe(name, m),
            ]
            for name, m in shares.items()
        ]
        where = asked(result) if asked(result).startswith(",") else ""
        title = f"{result.experiment}: share of {target(result)} answers{where}"
        print_table(title, ["model", "share [95 %]", "", "n", "what"], rows)
    table = conditions(result)
    if 0 < len(table) <= SHOWN:
        arms = [name for name in models(result) if any(name in row for row in table.values())]
        lines: list[list[Cell]] = [
            [called(result, name), *(row[arm].estimate if arm in row else None for arm in arms)]
            for name, row in table.items()
        ]
        print_table("share by condition", ["condition", *map(words, arms)], lines)
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


def side_by_side(results: Mapping[str, Result]) -> None:
    """Print this project's figures beside the paper's."""
    lines: list[list[Cell]] = [
        [
            f"{row.figure.experiment}: {row.figure.what}",
            f"{row.figure.mark} {row.figure.paper:.3f}",
            None if row.estimate is None else interval(Estimate(row.estimate, row.low or 0.0, row.high or 0.0, row.n)),
            None if row.n < 2 else f"range of {row.n}",
        ]
        for row in beside(results)
    ]
    print_table("share of answers", ["", "paper", "here [95 %]", ""], lines)


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
