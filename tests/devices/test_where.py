from __future__ import annotations

import json

import pytest

from tilewright.devices.where import Where, address_value
from tilewright.errors import OptionError


def test_an_address_has_a_port():
    assert address_value("pi.local:9091", 1) == ("pi.local", 9091)
    assert address_value("pi.local", 9090) == ("pi.local", 9090)


@pytest.mark.parametrize("text", ["", ":9090", "pi:", "pi:port"])
def test_no_address(text):
    with pytest.raises(OptionError, match="cannot read the address"):
        address_value(text, 9090)


def test_as_json_and_back():
    where = Where(("pi", 9190), "key", tracked=True, most=3)
    assert Where.from_dict(json.loads(json.dumps(where.to_dict()))) == where
    assert str(where) == "pi:9190"
