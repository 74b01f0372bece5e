"""The experiments on a user's own model: answers sampled and judged, where the embedded world scores exactly."""
