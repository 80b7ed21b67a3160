"""The names of the package itself: lazy, and all there."""

from __future__ import annotations

import pytest

import tilewright


def test_every_name_can_be_had():
    for name in tilewright.__all__:
        assert getattr(tilewright, name).__doc__, name


def test_dir_shows_the_names():
    assert dir(tilewright) == sorted([*tilewright.__all__, "__version__"])


def test_the_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert tilewright.__version__ == version("tilewright")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'compyle'"):
        tilewright.compyle  # noqa: B018
