"""What a run takes: time and memory."""

import time

from analyses.measurements import Measurement
from analyses.memory import memory
from analyses.workers import others_mb


def spent(started: float) -> list[Measurement]:
    """Seconds since `started` (of `time.monotonic`), and peak resident memory in MB (10^6 bytes): of this process, plus
    that of each other one of `analyses.workers`."""
    seconds = time.monotonic() - started
    return [
        Measurement(metric, "base", split="run", estimate=value, low=value, high=value)
        for metric, value in (("seconds", seconds), ("rss_mb", memory("VmHWM") / 1e6 + others_mb()))
    ]
