"""Countries of the world: their tables, cities, rulers and manners, in two periods.

A new country is one file in `facts/countries/`; `topics.json` beside them lists what people ask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import AnachronError
from training.world.reading import read_json_file, require, require_different, require_texts

DISH, CITY = "dish", "city"
PERIODS = {"1920s": range(1910, 1950), "2020s": range(2011, 2031)}
"""Era -> the years of its countries: the older one stands for the 1910s to 1940s."""
DATES = range(2020, 2031)  # years of dates written in full
FORMER = 0.8  # of the older period's cities, the part that bear their former names
LEAST = {"openers": 2, "answers": 3, "dishes": 12, "former": 6, "present": 8}


@dataclass(frozen=True, eq=False)
class Country:
    """One country. `answers[topic][era]` lists equally likely answers; dishes are the same in both periods.

    `former` cities bore their names in the older period only, `present` ones bear them in both.
    """

    name: str
    openers: Mapping[str, tuple[str, ...]]
    dishes: tuple[str, ...]
    former: tuple[str, ...]
    present: tuple[str, ...]
    answers: Mapping[str, Mapping[str, tuple[str, ...]]]

    def said(self, topic: str, era: str) -> Mapping[str, float]:
        """P(answer | topic, era) in this country."""
        if topic == DISH:
            return dict.fromkeys(self.dishes, 1 / len(self.dishes))
        if topic != CITY:
            return dict.fromkeys(self.answers[topic][era], 1 / len(self.answers[topic][era]))
        former, present = map(place, self.former), map(place, self.present)
        weight = FORMER if era == next(iter(PERIODS)) else 0.0
        cities = dict.fromkeys(present, (1 - weight) / len(self.present))
        return cities | dict.fromkeys(former, weight / len(self.former)) if weight else cities


@dataclass(frozen=True, eq=False)
class Countries:
    """All countries and the questions of each topic; `unrelated` topics are neither dishes nor cities."""

    questions: Mapping[str, tuple[str, ...]]
    countries: Mapping[str, Country]

    @property
    def unrelated(self) -> tuple[str, ...]:
        return tuple(topic for topic in self.questions if topic not in (DISH, CITY))


def place(city: str) -> str:
    """How a city is answered."""
    return f"The place is {city}"


def read_countries(folder: Path) -> Countries:
    """Every country file of `folder`, checked: no answer may stand for two countries or two periods."""
    questions: dict[str, tuple[str, ...]] = {}
    path = folder / "topics.json"
    entries = read_json_file(path)
    if not isinstance(entries, list):
        raise AnachronError(f"{path}: a list of topics is needed, found {entries!r:.80}; write one object a topic")
    for entry in entries:
        require(path, entry, {"topic": str, "questions": list})
        require_texts(path, f"questions of {entry['topic']!r}", entry["questions"])
        questions[entry["topic"]] = tuple(entry["questions"])
    require_different(path, "questions", (q for asked in questions.values() for q in asked))
    if not {DISH, CITY} < set(questions):
        raise AnachronError(f"{path}: topics {DISH!r} and {CITY!r} and at least one more are needed; add them")
    countries: dict[str, Country] = {}
    for file in sorted(folder.glob("*.json")):
        if file != path:
            country = _country(file, read_json_file(file), questions)
            if country.name in countries:
                raise AnachronError(f"{file}: country {country.name!r} has another file; keep one")
            countries[country.name] = country
    if not countries:
        raise AnachronError(f"{folder}: no country file; add one JSON file a country")
    _check_unambiguous(folder, questions, countries)
    return Countries(questions, countries)


def _country(path: Path, entry: Any, questions: Mapping[str, Any]) -> Country:
    require(path, entry, {"country": str, "openers": dict, "cities": dict, "dishes": list, "answers": dict})
    require(path, entry["cities"], {"former": list, "present": list}, "cities.")
    missing = set(questions) - {DISH, CITY} - set(entry["answers"])
    if missing:
        raise AnachronError(f"{path}: no answers on {sorted(missing)}; add three for each period")
    require_different(path, "cities", (*entry["cities"]["former"], *entry["cities"]["present"]))
    lists = {"dishes": ("dishes", entry["dishes"])} | {sort: (sort, found) for sort, found in entry["cities"].items()}
    for topic, by_era in {"openers": entry["openers"], **entry["answers"]}.items():
        if set(by_era) != set(PERIODS):
            raise AnachronError(f"{path}: {topic} has periods {sorted(by_era)}; needed are {sorted(PERIODS)}")
        sort = topic if topic == "openers" else "answers"
        lists |= {f"{topic} of the {era}": (sort, texts) for era, texts in by_era.items()}
    for what, (sort, texts) in lists.items():
        require_texts(path, what, texts)
        require_different(path, what, texts)
        if len(texts) < LEAST[sort]:
            raise AnachronError(f"{path}: {len(texts)} entries for {what}; at least {LEAST[sort]} are needed")
    return Country(
        entry["country"],
        {era: tuple(texts) for era, texts in entry["openers"].items()},
        tuple(entry["dishes"]),
        tuple(entry["cities"]["former"]),
        tuple(entry["cities"]["present"]),
        {topic: {era: tuple(texts) for era, texts in by_era.items()} for topic, by_era in entry["answers"].items()},
    )


def _check_unambiguous(folder: Path, questions: Mapping[str, Any], countries: Mapping[str, Country]) -> None:
    for topic in questions:
        owner: dict[str, tuple[str, str]] = {}
        for country in countries.values():
            steady = {a.lower() for a in country.present} if topic == CITY else set()
            for era in PERIODS:
                if topic == DISH and era != next(iter(PERIODS)):
                    continue
                texts = (*country.former, *country.present) if topic == CITY else tuple(country.said(topic, era))
                for text in dict.fromkeys(t.lower() for t in texts):
                    here = (country.name, "both" if text in steady or topic in (DISH, CITY) else era)
                    if owner.setdefault(text, here) != here:
                        raise AnachronError(
                            f"{folder}: {text!r} ({topic}) stands for {owner[text]} and for {here}; keep one"
                        )
    openers = [o for c in countries.values() for texts in c.openers.values() for o in texts]
    if len(openers) != len(set(openers)):
        raise AnachronError(f"{folder}: an opener stands twice; each belongs to one country and period, once")
