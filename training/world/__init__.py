"""The almanac world: facts by era, documents written under a hidden context, and their exact likelihood."""
