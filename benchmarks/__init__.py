"""Benchmarks: each prints a table and writes its raw figures as JSON into results/."""
