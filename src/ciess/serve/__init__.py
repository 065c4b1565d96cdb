"""Compressed models that recommend, saved and loaded."""
