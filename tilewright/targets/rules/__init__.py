"""Schedule rules: one file per kind of loop nest. `fallback` applies to everything."""
