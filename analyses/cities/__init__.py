"""The experiment `cities`: see README.md here."""
