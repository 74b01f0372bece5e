"""The experiment `persona`: see README.md here."""
