"""Measures what the toolkit costs beside bare Hugging Face calls, both sides in one run, taken in turn."""
