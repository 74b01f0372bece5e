"""The small worlds that are compared: a baseline, and each property of it changed alone."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from interp.errors import AnachronError
from training.small_models import SmallModel
from training.small_worlds import SmallWorld

BASELINE, NO_STYLE, SHARED_STYLE = "baseline", "no_style", "shared_style"
WORLDS: Mapping[str, SmallWorld] = MappingProxyType(
    {
        BASELINE: SmallWorld(),
        NO_STYLE: SmallWorld(manner="none"),
        SHARED_STYLE: SmallWorld(manner="shared"),
        "prior_0.02": SmallWorld(prior=0.02),
        "prior_0.25": SmallWorld(prior=0.25),
        "dated_0.15": SmallWorld(dated=0.15),
        "dated_0.8": SmallWorld(dated=0.8),
        "long": SmallWorld(turns=(4, 10)),
        "short": SmallWorld(turns=(1, 2)),
        "topics_5": SmallWorld(topics=5),
    }
)
STYLES = (BASELINE, NO_STYLE, SHARED_STYLE)
SHOWN: Mapping[str, str] = MappingProxyType(
    {
        BASELINE: "baseline: style words of the era",
        NO_STYLE: "no style words",
        SHARED_STYLE: "style words that all eras share",
        "prior_0.02": "2% of undated documents old",
        "prior_0.25": "25% of undated documents old",
        "dated_0.15": "15% of documents dated",
        "dated_0.8": "80% of documents dated",
        "long": "documents of 4 to 10 turns",
        "short": "documents of 1 or 2 turns",
        "topics_5": "5 topics beside birds",
    }
)


def small_models(worlds: Sequence[str], seeds: int, style_seeds: int) -> list[SmallModel]:
    """`seeds` models of each world, `style_seeds` of those that tell what style words do; the most telling first.

    Errors: AnachronError for an unknown world.
    """
    unknown = [name for name in worlds if name not in WORLDS]
    if unknown:
        raise AnachronError(f"no small world {', '.join(unknown)}; there are {', '.join(WORLDS)}")
    first = [(n, seed) for seed in range(seeds) for n in (BASELINE, NO_STYLE) if n in worlds]
    priors = [(n, seed) for seed in range(seeds) for n in worlds if n.startswith("prior_")]
    shared = [(n, seed) for seed in range(seeds) for n in worlds if n == SHARED_STYLE]
    known = {name for name, _ in (*first, *priors, *shared)}
    others = [(n, seed) for seed in range(seeds) for n in worlds if n not in known]
    last = [(n, seed) for seed in range(seeds, style_seeds) for n in worlds if n in STYLES]
    return [SmallModel(n, WORLDS[n], seed) for n, seed in (*first, *priors, *shared, *others, *last)]
