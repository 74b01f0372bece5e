"""The one exception this toolkit raises for something its user can mend."""


class AnachronError(Exception):
    """Says what is wrong (file, row, layer, both numbers) and, after a semicolon, what to do about it."""
