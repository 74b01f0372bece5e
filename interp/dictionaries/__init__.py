"""Dictionaries of activations: SAEs and crosscoders, what their latents do in a base and a tuned model."""
