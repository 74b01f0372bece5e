"""Judges of answers: rules, choice by log-probability, prompts to a model, likelihoods under stated contexts."""
