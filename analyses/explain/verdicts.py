"""Verdicts: what an interval says of a prediction that was written down before it was measured."""

from interp.stats import Estimate


def above(found: Estimate, threshold: float) -> str:
    """For "it is above `threshold`": refuted where the whole interval lies below it."""
    if found.low > threshold:
        return "holds"
    return "refuted" if found.high < threshold else "undecided"


def more(found: Estimate, than: float) -> str:
    """For "it is more than that" where no difference refutes it: the interval includes it or lies below."""
    return "holds" if found.low > than else "refuted"


def below(found: Estimate, threshold: float) -> str:
    """For "it is below `threshold`": refuted where the whole interval lies above it."""
    if found.high < threshold:
        return "holds"
    return "refuted" if found.low > threshold else "undecided"


def within(found: Estimate, limit: float) -> str:
    """For "it is within `limit` of 0": refuted where the whole interval lies on one side beyond it."""
    if -limit <= found.low and found.high <= limit:
        return "holds"
    return "refuted" if found.low > limit or found.high < -limit else "undecided"


def shown(found: Estimate) -> str:
    """An estimate in a sentence: 0.12 [0.08, 0.15], n = 3."""
    return f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}], n = {found.n}"


def reaches(found: Estimate, threshold: float) -> str:
    """For "it is `threshold` or more" of a correlation: holds where the estimate is and the interval is above 0."""
    if found.estimate >= threshold and found.low > 0:
        return "holds"
    return "refuted" if found.high < threshold else "undecided"
