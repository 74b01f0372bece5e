"""The experiment `presidents`: see README.md here."""
