"""Sizes and storage: plans, budgets, the order of dimensions, packed rows."""
