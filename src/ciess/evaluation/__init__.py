"""Ranking metrics and paired tests."""
