"""A process of its own that asks an endpoint through a cache: `python asker.py CACHE URL PROMPTS N CONCURRENCY`."""

import sys

from interp.behavior.answers import Sampling
from interp.behavior.cache import Cache
from interp.behavior.endpoint import EndpointAnswerer
from interp.behavior.keeping import ask


def main(cache, url, prompts, n, concurrency):
    answerer = EndpointAnswerer("m", url, concurrency=int(concurrency))
    with Cache(cache) as kept:
        print("ready", flush=True)
        answers = ask(answerer, [f"question {i}" for i in range(int(prompts))], Sampling(int(n)), kept)
    print("\n".join(answer.text for answer in answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
