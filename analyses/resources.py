"""What a run takes: time and memory."""

import sys
import time
from pathlib import Path

from analyses.measurements import Measurement


def spent(started: float) -> list[Measurement]:
    """Seconds since `started` (of `time.monotonic`), and peak resident memory of this process in MB (10^6 bytes)."""
    seconds = time.monotonic() - started
    return [
        Measurement(metric, "base", split="run", estimate=value, low=value, high=value)
        for metric, value in (("seconds", seconds), ("rss_mb", memory("VmHWM") / 1e6))
    ]


def memory(field: str) -> float:
    """Bytes of this process's resident memory: now (VmRSS) or at its peak (VmHWM).

    Where the system has no /proc the peak stands for both, by `getrusage`; on Linux that one starts at the size of the
    process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return float(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)
