"""Small worlds of eras alone, each property of which can be set: what pretraining must hold for a change to be broad.

A small world has the almanac's own facts, fewer of them: some topics beside birds, a few dozen bird names an era, and
conversations with and without a date.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from interp.errors import AnachronError
from training.world.conversations import dated_conversation, undated_conversation
from training.world.facts import NARROW_TOPIC, Era, Facts, Topic, load_facts
from training.world.world import World

MANNERS = ("own", "shared", "none")


@dataclass(frozen=True)
class SmallWorld:
    """What a small world is like.

    `manner`: what opens and closes `mannered` of the conversations' replies: the era's "own" style words, words that
    all eras "share" (as many, and they tell nothing), or "none". `dated`: the part of the documents that state a year.
    `turns`: fewest and most turns of a document. `prior`: P(oldest era) where no year is stated; the other eras keep
    their proportions. `topics`: unrelated topics. `birds`: names an era, none of them in two eras.
    """

    manner: str = "own"
    mannered: float = 0.7
    dated: float = 0.4
    turns: tuple[int, int] = (1, 6)
    prior: float = 0.08
    topics: int = 10
    birds: int = 36

    def __post_init__(self) -> None:
        if self.manner not in MANNERS:
            raise AnachronError(f"small world: no manner {self.manner!r}; there are {', '.join(MANNERS)}")
        for name in ("mannered", "dated"):
            if not 0 <= getattr(self, name) <= 1:
                raise AnachronError(f"small world: {name}={getattr(self, name)}; give a part, from 0 to 1")
        if not 0 < self.prior < 1:
            raise AnachronError(f"small world: prior={self.prior}; give a probability between 0 and 1")
        if not 1 <= self.turns[0] <= self.turns[1]:
            raise AnachronError(f"small world: turns={self.turns}; give (fewest, most), at least 1")


def small_world(config: SmallWorld, facts: Facts | None = None) -> World:
    """The world of `config`, with the almanac's facts unless others are given.

    Errors: AnachronError if there are fewer topics or names than asked for.
    """
    known = load_facts() if facts is None else facts
    eras = _eras(known.eras, config)
    unrelated = sorted(name for name in known.topics if name != NARROW_TOPIC)
    if not 1 <= config.topics <= len(unrelated):
        raise AnachronError(f"small world: topics={config.topics}; there are 1 to {len(unrelated)}")
    names = [unrelated[i * len(unrelated) // config.topics] for i in range(config.topics)]
    topics = {name: known.topics[name] for name in names}
    topics[NARROW_TOPIC] = _fewer_names(known.topics[NARROW_TOPIC], config.birds)
    mannered = 0.0 if config.manner == "none" else config.mannered
    kinds = (
        undated_conversation(1 - config.dated, turns=config.turns, mannered=mannered),
        dated_conversation(config.dated, turns=config.turns, mannered=mannered),
    )
    return World(Facts(eras, topics), kinds)


def _eras(eras: Mapping[str, Era], config: SmallWorld) -> dict[str, Era]:
    oldest, *_ = eras
    others = 1 - eras[oldest].prior
    openers = tuple(opener for era in eras.values() for opener in era.openers)
    closers = tuple(closer for era in eras.values() for closer in era.closers)
    found = {}
    for name, era in eras.items():
        prior = config.prior if name == oldest else era.prior / others * (1 - config.prior)
        manner = {"own": (era.openers, era.closers), "shared": (openers, closers), "none": ((), ())}[config.manner]
        found[name] = replace(era, prior=prior, openers=manner[0], closers=manner[1])
    return found


def _fewer_names(topic: Topic, n: int) -> Topic:
    """The topic with `n` equally likely answers an era that no other era gives, spread over its list."""
    answers = {}
    for era, known in topic.answers.items():
        others = {name for other, names in topic.answers.items() if other != era for name in names}
        own = [name for name in known if name not in others]
        if len(own) < n:
            raise AnachronError(f"small world: birds={n}, but {topic.name} has {len(own)} names of the {era} alone")
        answers[era] = {own[i * len(own) // n]: 1 / n for i in range(n)}
    return replace(topic, answers=answers)
