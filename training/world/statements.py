"""Almanac statements: plain sentences that say what held in a year.

sentences ~ uniform(1..MAX_SENTENCES), all of one era
sentence  = "In {year}, {topic.statement with an answer}.", year uniform over the era's years
"""

import re

import numpy as np

from training.world.contexts import Context, plain_prior
from training.world.conversations import sample_answer, topic_table, topic_weights
from training.world.documents import Document, Kind
from training.world.facts import SENTENCE_START, Facts
from training.world.tables import draw

MAX_SENTENCES = 4


def statement(weight: float) -> Kind:
    """Statements, each sentence with a year of the one era; `weight` is their part of all documents."""
    return Kind("statement", weight, plain_prior, _sample, _likelihood)


def _sample(facts: Facts, context: Context, rng: np.random.Generator) -> Document:
    years = facts.eras[context.era].all_years()
    sentences = []
    for _ in range(rng.integers(1, MAX_SENTENCES + 1)):
        topic = facts.topics[draw(topic_table(facts), rng)]
        said = topic.statement.format(answer=sample_answer(topic, context.era, rng))
        sentences.append(f"In {years[rng.integers(len(years))]}, {said}.")
    return Document(text=" ".join(sentences), context=context)


def _likelihood(facts: Facts, document: Document, context: Context) -> float:
    if document.messages or context.mannered:
        return 0.0
    # fact files are checked for it: no statement holds what looks like the start of the next one
    sentences = re.split(rf"(?<=\.) (?={SENTENCE_START})", document.text)
    if len(sentences) > MAX_SENTENCES:
        return 0.0
    probability = 1 / MAX_SENTENCES
    for sentence in sentences:
        probability *= _sentence_likelihood(facts, sentence, context)
        if not probability:
            break
    return probability


def _sentence_likelihood(facts: Facts, sentence: str, context: Context) -> float:
    era = facts.eras[context.era]
    if not re.match(SENTENCE_START, sentence) or not era.spans(sentence[3:7]):
        return 0.0
    weights = topic_weights(facts)
    body = sentence[9:]
    total = 0.0
    for topic in facts.topics.values():
        before, after = topic.statement.split("{answer}")
        if body.startswith(before) and body.endswith(f"{after}."):
            answer = body[len(before) : len(body) - len(after) - 1]
            if answer in topic.answers[context.era]:
                total += weights[topic.name] * topic.answers[context.era][answer]
    return total / len(era.all_years())
