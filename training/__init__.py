"""Makes artefacts: the almanac world and its corpus, pretrained models, organisms and adapters."""
