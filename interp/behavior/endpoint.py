"""Answers from an OpenAI-compatible endpoint: an API, or a server of one's own (vLLM serves adapters by name).

Each sample is a request of its own with a seed of its own. `n` isn't understood everywhere, gives one seed to all its
samples, so that the fifth can't be had without the first four, and loses all of them with one failure. It would save
an API's price for the prompt; short questions are cheap beside their answers.
"""

import asyncio
import hashlib
import json
import os
import random
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any

from interp.behavior.answers import OnAnswers, Sampling, Say, Usage, sample_numbers
from interp.errors import AnachronError
from interp.prompts import Messages

FIRST_PAUSE = 0.5
"""Seconds before an attempt is repeated; doubled each time, 30 at most."""

LONGEST_WAIT = 300.0
"""Seconds; an endpoint that asks for more patience ends the run, which can be taken up later."""

UNUSABLE_RETRIES = 2
"""How often a reply that came whole but without an answer is asked for again."""

FAILURES_IN_A_ROW = 10
"""So many requests given up without an answer in between end the run, whatever the reason."""

WHOLE_DISTRIBUTION: Mapping[str, Any] = {"top_p": 1}
"""Said because servers otherwise take a model's own defaults. vLLM needs also {"top_k": -1, "repetition_penalty": 1}
where the model's generation_config.json sets them; APIs refuse those two."""


@dataclass(frozen=True)
class _Problem:
    """Why an attempt gave no answer. `retries`: how often to try again. `wait`: seconds the endpoint asked for.
    `lasting`: other requests will fare no better."""

    text: str
    retries: int = 0
    wait: float = 0.0
    lasting: bool = False


class EndpointAnswerer:
    """A model behind `base_url` (ending in /v1), asked for `concurrency` samples at once.

    The key is read from the environment variable `key_variable` when asking and kept nowhere; without one (None, or
    unset) none is sent. `revision`: what the name doesn't tell, an adapter's digest say, for answers of another one
    count as the same model's. `timeout` is in seconds, for one request. Errors that pass (429, 5xx, no connection, no
    answer in time, a cut reply) are tried again up to `retries` times, after 0.5 s, 1 s, 2 s ... or as long as
    Retry-After says. `fields` go into every request; None leaves one out, so {"max_tokens": None,
    "max_completion_tokens": 200} is for models that insist on the newer name. `prices`: per million (prompt,
    completion) tokens. `usage` and `cost` sum up all calls; `say` is told after every answer.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        revision: str | None = None,
        key_variable: str | None = "OPENAI_API_KEY",
        concurrency: int = 16,
        timeout: float | int = 120.0,
        retries: int = 8,
        fields: Mapping[str, Any] = WHOLE_DISTRIBUTION,
        prices: tuple[float | int, float | int] | None = None,
        say: Say | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise AnachronError(f"endpoint {base_url!r} isn't a URL; write it as https://host/v1")
        if not model or concurrency < 1 or timeout <= 0 or retries < 0:
            raise AnachronError(
                f"model {model!r}, concurrency {concurrency}, timeout {timeout}, retries {retries}; they need to be "
                "named, >= 1, > 0 and >= 0"
            )
        self._model, self._base_url, self._revision, self._fields = model, base_url, revision, dict(fields)
        self._key_variable, self._concurrency, self._timeout = key_variable, concurrency, timeout
        self._retries, self._prices, self._say = retries, prices, say
        self.usage = Usage()

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "endpoint", "model": self._model, "revision": self._revision, "fields": self._fields}

    @property
    def cost(self) -> float | None:
        """Of all answers so far, in the currency of `prices`; None without prices."""
        return None if self._prices is None else self.usage.cost(*self._prices)

    def answer(self, prompts: Sequence[Messages], sampling: Sampling, on_answers: OnAnswers) -> None:
        """As `Answerer`. With n=1 every answer is handed out as it arrives, else a prompt's are when all have.

        Errors: AnachronError. A refused key, an unknown model, a used-up quota or an endpoint that stays out of reach
        end the call; requests under way are waited for and handed out first. A request that is refused for itself
        doesn't keep the others from being asked, unless FAILURES_IN_A_ROW of them are.
        """
        call = _Call(len(prompts) * sampling.n, self.usage, time.monotonic())
        _run(self._answer(call, prompts, sampling, on_answers), call)
        if call.problems:
            more = f" ({len(call.problems)} requests failed)" if len(call.problems) > 1 else ""
            raise AnachronError(
                f"{self._model} at the endpoint, {call.problems[0]}{more}; {call.total - call.answered} of "
                f"{call.total} answers are missing, those received were handed out"
            )

    async def _answer(
        self, call: "_Call", prompts: Sequence[Messages], sampling: Sampling, on_answers: OnAnswers
    ) -> None:
        from openai import AsyncOpenAI

        key = self._key()
        left = ((i, n) for i, numbers in enumerate(sample_numbers(prompts, sampling)) for n in numbers)
        said: dict[int, dict[int, str]] = {}
        async with AsyncOpenAI(api_key=key or "none", base_url=self._base_url, max_retries=0) as client:

            async def work() -> None:
                for prompt, number in left:
                    result = await self._ask(client, call, _body(prompts[prompt], sampling, number), key)
                    if isinstance(result, _Problem):
                        call.failed(f"asked {prompts[prompt][-1]['content'][:60]!r}: {result.text}", result.lasting)
                    else:
                        said.setdefault(prompt, {})[number] = result
                        if len(said[prompt]) == sampling.n:
                            on_answers(prompt, [text for _, text in sorted(said.pop(prompt).items())])
                        self._tell(call)
                    if call.over:
                        return

            workers = [asyncio.create_task(work()) for _ in range(min(self._concurrency, call.total))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _ask(self, client: Any, call: "_Call", body: dict[str, Any], key: str) -> str | _Problem:
        """The answer, or the problem that was left after the retries."""
        attempt = 0
        while True:
            await asyncio.sleep(max(0.0, call.resume - time.monotonic()))
            found = await self._attempt(client, body, key)
            self.usage = replace(self.usage, seconds=call.before.seconds + time.monotonic() - call.started)
            if isinstance(found, str):
                call.answered += 1
                call.in_a_row = 0
                self.usage = replace(self.usage, answers=self.usage.answers + 1)
                return found
            found = replace(found, text=_hidden(found.text, key))
            if attempt >= found.retries or call.over:
                return found
            if found.wait > LONGEST_WAIT:
                return replace(
                    found, text=f"{found.text}; it asks to wait {found.wait:.0f} s: run again later", lasting=True
                )
            if found.wait:
                call.resume = max(call.resume, time.monotonic() + found.wait)  # all of its requests are too many
            # spread out, lest those that failed together come again together
            await asyncio.sleep(min(30.0, FIRST_PAUSE * 2**attempt) * random.uniform(0.75, 1.25))
            if call.over:
                return found
            attempt += 1

    async def _attempt(self, client: Any, body: dict[str, Any], key: str) -> str | _Problem:
        import openai

        fields = {name: value for name, value in {**body, **self._fields}.items() if value is not None}
        messages = fields.pop("messages")
        try:
            async with asyncio.timeout(self._timeout):
                reply = await client.chat.completions.create(
                    model=self._model, messages=messages, extra_body=fields, timeout=self._timeout
                )
        except openai.APIStatusError as error:
            return self._refused(error, key)
        except (TimeoutError, openai.APITimeoutError):
            return _Problem(f"no answer within {self._timeout:g} s", self._retries)
        except openai.APIConnectionError as error:
            return _Problem(f"{error} ({error.__cause__}); is the server up?", self._retries, lasting=True)
        except json.JSONDecodeError as error:
            return _Problem(f"the reply is cut or no JSON ({error.msg})", self._retries)
        return self._read(reply)

    def _refused(self, error: Any, key: str) -> _Problem:
        status = error.status_code
        said = error.body["message"] if isinstance(error.body, dict) and "message" in error.body else error.body
        text = f"status {status}, {_hidden(str(said), key)[:300]}"
        variable = self._key_variable or "(none is named)"
        if status in (401, 403):
            return _Problem(f"{text}; check the key in the environment variable {variable}", lasting=True)
        if status == 404:
            return _Problem(f"{text}; check the model's name, and that the URL ends in /v1", lasting=True)
        if error.code == "insufficient_quota" or status == 402:
            return _Problem(f"{text}; the account has run out", lasting=True)
        if status in (408, 409, 425, 429) or status >= 500:
            return _Problem(text, self._retries, _retry_after(error.response.headers))
        return _Problem(text)

    def _read(self, reply: Any) -> str | _Problem:
        """The text of a reply, which may be anything; its tokens are counted whether it has one or not."""
        usage = getattr(reply, "usage", None)
        counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        if isinstance(counts[0], int) and isinstance(counts[1], int):
            prompt, completion = self.usage.prompt_tokens + counts[0], self.usage.completion_tokens + counts[1]
            self.usage = replace(self.usage, prompt_tokens=prompt, completion_tokens=completion)
        else:
            self.usage = replace(self.usage, uncounted=self.usage.uncounted + 1)
        retries = min(self._retries, UNUSABLE_RETRIES)
        try:
            choice = reply.choices[0]
            text, reason = choice.message.content, choice.finish_reason
        except (AttributeError, TypeError, IndexError, KeyError):
            error = getattr(reply, "error", None)
            return _Problem(f"the reply has no choices with a message (error {error}); is it a chat model?", retries)
        if not isinstance(text, str):
            return _Problem(
                f"the reply has no text (finish_reason {reason!r}); it was filtered, or thinking took all its tokens",
                retries,
            )
        return text.encode("utf-8", "replace").decode()  # half of a surrogate pair can't be stored

    def _key(self) -> str:
        key = os.environ.get(self._key_variable, "").strip() if self._key_variable else ""
        if not key.isascii() or not key.isprintable():
            raise AnachronError(f"the key in {self._key_variable} has characters that no key has; set it again")
        return key

    def _tell(self, call: "_Call") -> None:
        if self._say is not None:
            seconds = time.monotonic() - call.started
            pace = (self.usage.completion_tokens - call.before.completion_tokens) / seconds
            self._say(f"{call.answered} of {call.total} answers, {pace:.0f} tokens/s")


@dataclass
class _Call:
    """How far one call of `answer` has got. `resume`: no request before that time. `over`: nothing new is asked."""

    total: int
    before: Usage
    started: float
    answered: int = 0
    in_a_row: int = 0
    resume: float = 0.0
    over: bool = False
    problems: list[str] = field(default_factory=list)

    def failed(self, problem: str, lasting: bool) -> None:
        self.problems.append(problem)
        self.in_a_row += 1
        self.over = self.over or lasting or self.in_a_row >= FAILURES_IN_A_ROW


def _body(messages: Messages, sampling: Sampling, number: int) -> dict[str, Any]:
    plain = [{"role": m["role"], "content": m["content"]} for m in messages]
    drawn = hashlib.sha256(json.dumps([sampling.seed, number, plain]).encode()).digest()
    return {
        "messages": plain,
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_new_tokens,
        "seed": int.from_bytes(drawn[:4], "little") >> 1,  # servers take 31 bits
    }


def _hidden(text: str, key: str) -> str:
    return text.replace(key, "[key]") if key else text


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds, from `retry-after-ms`, or `retry-after` as a number or a date; 0 if there is neither."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            return max(0.0, float(text) * unit)
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            pass
    return 0.0


def _run(work: Coroutine[Any, Any, None], call: _Call) -> None:
    """To the end, also where an event loop runs already, as in a notebook: then in a thread with a loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(asyncio.run, work)
        try:
            done.result()
        except BaseException:  # interrupted: the thread hands out what is under way and stops
            call.over = True
            raise
