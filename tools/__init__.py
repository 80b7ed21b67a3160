"""Tools for people who work on Tilewright; not part of the installed package."""
