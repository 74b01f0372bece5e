"""The experiments side by side: with the paper's figures, and their directions with one another."""
