"""Latent pages: the latents of a dictionary in one HTML file that opens without a server."""
