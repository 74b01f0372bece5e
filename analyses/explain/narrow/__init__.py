"""Is there a narrow solution, and why is the broad one found instead?"""

from analyses.explain.narrow.config import NarrowConfig as NarrowConfig
from analyses.explain.narrow.run import run as run
