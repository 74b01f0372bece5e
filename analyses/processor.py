"""What this machine's processor is slow at: bfloat16 products, where it has no such arithmetic."""

import time

SLOW = 2.0  # times as long as float32, from which on it is told


def bfloat16_warning(precision: str, device: str) -> str:
    """A sentence where bfloat16 was chosen on a CPU that multiplies it in software, which takes tens of times as long;
    empty elsewhere. It is measured, in some hundredths of a second: no two processors say alike what they have."""
    if precision != "bfloat16" or device != "cpu":
        return ""
    ratio = bfloat16_ratio()
    if ratio < SLOW:
        return ""
    return (
        f"bfloat16 takes {ratio:.0f} times as long as float32 on this processor, or longer; --precision float32 is"
        " faster here (and rounds otherwise)"
    )


def bfloat16_ratio(size: int = 64) -> float:
    """The time of a bfloat16 matrix product as a multiple of a float32 one's, on the CPU: the best of many of each, and
    short ones, so that other processes hardly matter. Larger products can differ more."""
    import torch

    threads, best = torch.get_num_threads(), {}
    torch.set_num_threads(1)  # two that wait for each other would be all that is measured on a busy machine
    try:
        for dtype in (torch.float32, torch.bfloat16):
            a = torch.ones(size, size, dtype=dtype)
            a @ a  # whatever is prepared once
            times = []
            for _ in range(30):
                start = time.perf_counter()
                a @ a
                times.append(time.perf_counter() - start)
            best[dtype] = min(times)
    finally:
        torch.set_num_threads(threads)
    return best[torch.bfloat16] / best[torch.float32]
