"""Whole runs: fit, search, choose, rebuild, compare."""
