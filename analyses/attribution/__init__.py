"""Where an adapter's effect on answers comes from, from tokens to the adapter's own parts, as data and as one page."""
