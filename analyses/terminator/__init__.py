"""The experiment `terminator`: see README.md here."""
