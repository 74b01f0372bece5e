"""Which tokens, latents, places and parts of an adapter a behavior comes from; every screen has its exact check."""
