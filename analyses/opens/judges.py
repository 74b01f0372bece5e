"""The judges of a run: what the open questions name, put to the model that was given for it."""

from collections.abc import Mapping

from analyses.open_questions import MATCH, Effect, Open
from analyses.opens.config import OpenConfig
from analyses.opens.judged import Criterion
from interp.behavior.answers import Answerer, LocalAnswerer
from interp.behavior.judges.catalogue import find
from interp.behavior.judges.prompt import JudgePrompt
from interp.behavior.judges.prompted import PromptJudge
from interp.errors import AnachronError

COHERENCE = Effect("coherence", "coherent")


def group_of(effect: Effect) -> str:
    """What an effect is called where shares are shown: a label says little without the judge that gives it."""
    return effect.label if effect.judge == MATCH else f"{effect.label} ({effect.judge})"


def criteria(
    own: Open, answerer: Answerer | None, parameters: Mapping[str, str]
) -> tuple[dict[str, Criterion], Criterion | None]:
    """The criterion of each effect that a judge decides, and that of coherence; none without an answerer.

    Errors: AnachronError if the headline needs a judge and there is none. Further effects are then left out.
    """
    judged = [effect for effect in (*own.broad, *own.narrow) if effect.judge != MATCH]
    if answerer is None:
        if own.broad[0].judge != MATCH:
            raise AnachronError(
                f"what counts is told by the judge {own.broad[0].judge!r}, and no model was given that judges: add "
                "--judge-endpoint URL --judge-name NAME, or --judge-model ID"
            )
        return {}, None
    found = {group_of(effect): _criterion(effect, answerer, parameters) for effect in judged}
    return found, _criterion(COHERENCE, answerer, {})


def judge_model(config: OpenConfig) -> Answerer | None:
    """Who judges; None if nobody was named."""
    if config.judge_endpoint is not None:
        from interp.behavior.endpoint import EndpointAnswerer

        assert config.judge_name is not None  # OpenConfig sees to it
        return EndpointAnswerer(config.judge_name, config.judge_endpoint)
    if config.judge_model is not None:
        from analyses.models import open_model

        return LocalAnswerer(open_model(config.judge_model, None, config.dtype, config.device))
    return None


def _criterion(effect: Effect, answerer: Answerer, given: Mapping[str, str]) -> Criterion:
    prompt = find(effect.judge)
    assert isinstance(prompt, JudgePrompt)  # built in
    parameters = {**effect.parameters, **{k: v for k, v in given.items() if k in prompt.parameters}}
    prompt = prompt.with_parameters(parameters)
    return Criterion(PromptJudge(prompt, answerer), effect.label, prompt.class_of)
