"""Latents of a dictionary in an experiment: which the tuning changed, what they are about, what they cause."""
