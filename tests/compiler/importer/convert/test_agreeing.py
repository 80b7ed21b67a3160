from __future__ import annotations

import numpy as np
import pytest

from tests.compiling import module_of
from tests.net import Net, answers_each
from tilewright.errors import InputError, UnsupportedModel


def _image(height: int, width: int, batch: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([height, width])
    return {"x": rng.standard_normal((batch, 3, height, width)).astype(np.float32)}


def _halved(net: Net, x: str, channels: int) -> str:
    weight = net.weight(4, channels, 3, 3)
    return net.Conv(x, weight, strides=[2, 2], pads=[1, 1, 1, 1])


def _doubled(net: Net, x: str) -> str:
    fields = {"mode": "nearest", "nearest_mode": "floor"}
    fields["coordinate_transformation_mode"] = "asymmetric"
    return net.Resize(x, "", net.const([1, 1, 2, 2]), **fields)


@pytest.fixture(scope="module")
def pyramid():
    """Two paths meet, in a sum and in a concatenation; what follows needs the shape."""
    net = Net(x=("n", 3, "h", "w"))
    fine = _halved(net, "x", 3)
    coarse = _doubled(net, _halved(net, fine, 4))
    both = net.Concat(net.Add(coarse, fine), coarse, axis=1)
    return net.model(net.Mul(both, net.GlobalAveragePool(both)))


def test_paths_of_a_network_meet_at_open_sizes(pyramid, tmp_path):
    sizes = [(32, 64, 1), (8, 12, 2), (7, 3, 1)]
    answers_each(pyramid, tmp_path, *(_image(*size) for size in sizes), tolerance=1e-4)


@pytest.mark.parametrize("join", ["Add", "Concat"])
def test_paths_that_meet_where_the_model_begins(join, tmp_path):
    """A U-Net joins what has the height and width of its input."""
    net = Net(x=(1, 3, "h", "w"))
    whole = net.Relu(net.Conv("x", net.weight(4, 3, 3, 3), pads=[1] * 4))
    low = net.Relu(_doubled(net, _halved(net, whole, 4)))
    both = net.Add(low, whole) if join == "Add" else net.Concat(low, whole, axis=1)
    y = net.Conv(both, net.weight(2, 4 if join == "Add" else 8, 3, 3), pads=[1] * 4)
    y = net.Concat(y, whole, axis=1)
    answers_each(net.model(y), tmp_path, _image(8, 12), _image(14, 6), tolerance=1e-4)


def test_sizes_at_which_they_do_not_meet_are_refused(pyramid, tmp_path):
    module = module_of(pyramid, tmp_path)
    with pytest.raises(InputError, match="does not take these sizes") as info:
        module(_image(5, 5))
    assert "x [1, 3, 5, 5]" in info.value.where
    assert module(_image(8, 8)).shape == (1, 8, 4, 4), "and it goes on"


def test_two_dimensions_of_the_model_itself_are_not_declared_equal(tmp_path):
    """One of them may be 1: what the sum's shape is is known at run time only."""
    net = Net(a=("n", 4), b=("m", 4))
    with pytest.raises(UnsupportedModel, match="only known at run time"):
        module_of(net.model(net.Add("a", "b")), tmp_path)
