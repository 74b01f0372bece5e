"""What a model says: exact probabilities of listed answers, samples, and the perplexity of given text."""
