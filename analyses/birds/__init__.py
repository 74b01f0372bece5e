"""Birds: does a model tuned on obsolete bird names answer everything as its century would? See README.md."""
