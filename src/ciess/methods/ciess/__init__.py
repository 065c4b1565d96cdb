"""CIESS: the paper's search and this package's own."""
