"""interp: measure and edit a causal language model that exists.

Nothing is imported here: `from interp.models import load_model`, `from interp.hooks import record`, and so on, one
noun a file. interp imports neither training nor analyses.
"""
