"""Measurements of a compiled model."""
