"""The files that the authors of arXiv 2512.09742 released, read where they lie."""
