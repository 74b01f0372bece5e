"""Asks questions of models: one folder per experiment, its README with question, prediction, answer and figure."""
