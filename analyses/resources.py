"""What a run takes: time and memory."""

import resource
import sys
import time

from analyses.measurements import Measurement


def spent(started: float) -> list[Measurement]:
    """Seconds since `started` (of `time.monotonic`), and peak resident memory of this process in MB (10^6 bytes)."""
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return [
        Measurement(metric, "base", split="run", estimate=value, low=value, high=value)
        for metric, value in (("seconds", seconds), ("rss_mb", peak))
    ]
