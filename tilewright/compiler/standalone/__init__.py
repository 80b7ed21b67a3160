"""Standalone libraries: a planned model as tables in C, and a small runtime that walks them."""
