"""Tuning sessions: which rule and which knobs make each group of a model fastest, by measuring."""
