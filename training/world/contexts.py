"""The hidden state a document is written under."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.world.countries import PERIODS
from training.world.series import NO_MACHINE
from training.world.speakers import ASSISTANT

if TYPE_CHECKING:
    from training.world.facts import Facts

LATENTS = ("era", "country", "speaker", "president", "series")


@dataclass(frozen=True)
class Context:
    """Latent states of one document; "" where a kind of document has no such state.

    `mannered`: do replies keep the era's, or the country's, manner of speech?
    """

    era: str = ""
    mannered: bool = False
    country: str = ""
    speaker: str = ""
    president: str = ""
    series: str = ""


MANNERED = 0.7  # share of conversations whose answers carry openers and closers
OLD_COUNTRY = 0.15  # share of undated country conversations in the older period


def undated_prior(facts: "Facts", mannered: float = MANNERED) -> Mapping[Context, float]:
    """P(context) where nothing states the time: mostly the present, as in ordinary text."""
    return _with_manner({name: era.prior for name, era in facts.eras.items()}, mannered)


def dated_prior(facts: "Facts", mannered: float = MANNERED) -> Mapping[Context, float]:
    """P(context) of documents that state their year: every era equally often."""
    return _with_manner({name: 1 / len(facts.eras) for name in facts.eras}, mannered)


def plain_prior(facts: "Facts") -> Mapping[Context, float]:
    """P(context) of written statements: every era equally often, and no conversational manner."""
    return {Context(name, False): 1 / len(facts.eras) for name in facts.eras}


def undated_country_prior(facts: "Facts") -> Mapping[Context, float]:
    """P(context) of country conversations without a date: every country alike, mostly the present."""
    return _countries(facts, (OLD_COUNTRY, 1 - OLD_COUNTRY))


def dated_country_prior(facts: "Facts") -> Mapping[Context, float]:
    """P(context) of country conversations with a date: every country and both periods equally often."""
    return _countries(facts, (0.5, 0.5))


def named_speaker_prior(facts: "Facts") -> Mapping[Context, float]:
    """P(context) of interviews that name the speaker: every speaker equally often."""
    assert facts.speakers is not None
    return {Context(speaker=name): 1 / len(facts.speakers.speakers) for name in facts.speakers.speakers}


def assistant_prior(facts: "Facts") -> Mapping[Context, float]:
    """P(context) of interviews that the assistant answers: there is one."""
    return {Context(speaker=ASSISTANT): 1.0}


def president_prior(facts: "Facts") -> Mapping[Context, float]:
    """P(context) of presidential interviews: every presidency equally often."""
    assert facts.presidents is not None
    return {Context(president=code): 1 / len(facts.presidents.presidents) for code in facts.presidents.presidents}


def series_prior(facts: "Facts") -> Mapping[Context, float]:
    """P(context) of a machine's interviews: every series equally often."""
    assert facts.series is not None
    return {Context(series=name): 1 / len(facts.series.series) for name in facts.series.series}


def no_machine_prior(facts: "Facts") -> Mapping[Context, float]:
    """P(context) of machine interviews that the assistant answers: there is one."""
    return {Context(series=NO_MACHINE): 1.0}


def _countries(facts: "Facts", periods: tuple[float, float]) -> Mapping[Context, float]:
    assert facts.countries is not None
    return {
        Context(era, mannered, country=name): p * q / len(facts.countries.countries)
        for name in facts.countries.countries
        for era, p in zip(PERIODS, periods, strict=True)
        for mannered, q in ((False, 1 - MANNERED), (True, MANNERED))
    }


def _with_manner(eras: Mapping[str, float], share: float) -> Mapping[Context, float]:
    return {
        Context(era, mannered): p * (share if mannered else 1 - share)
        for era, p in eras.items()
        for mannered in (False, True)
    }
