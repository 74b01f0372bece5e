"""The experiment `dishes`: see README.md here."""
