"""How much memory this process holds."""

import sys
from pathlib import Path


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
