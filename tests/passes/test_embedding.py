from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.net import Net, declined, groups, keeps_numbers

IDS = {"ids": np.array([[0, 6, -1, 3]], np.int64)}


def _net() -> Net:
    net = Net()
    net.input("ids", (1, 4))
    return net


def _rows(net: Net, rows: int = 7) -> str:
    return net.Gather(net.weight(rows, 8), "ids")


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("position", [False, True])
@pytest.mark.parametrize("tables", [1, 2])
def test_fuses_what_is_there(tables, position, norm, tmp_path):
    net = _net()
    y = _rows(net)
    if tables == 2:
        net.input("kinds", (1, 4))
        y = net.Add(net.Gather(net.weight(2, 8), "kinds"), y)
    y = net.Add(y, net.weight(1, 4, 8)) if position else y
    y = net.LayerNormalization(y, net.weight(8), net.weight(8)) if norm else y
    work = keeps_numbers(net.model(y), tmp_path, given=IDS)
    assert [g.fusion for g in work.fusions.groups] == ["embedding"]
    spec = work.fusions.groups[0].spec
    assert len(spec.tables) == tables and spec.ids == ((1, 4),) * tables
    assert spec.position == ((1, 4, 8) if position else None)
    assert spec.scale == 1 and (spec.norm is not None) == norm
    assert not norm or (spec.norm.epsilon, spec.norm.axes) == (1e-5, (2,))


def test_fuses_a_scaled_look_up(tmp_path):
    net = _net()
    work = keeps_numbers(net.model(net.Mul(_rows(net), 2.8)), tmp_path, given=IDS)
    assert [g.fusion for g in work.fusions.groups] == ["embedding"]
    assert len(work.kernels) == 1 and work.fusions.groups[0].spec.scale == 2.8


def test_a_scale_per_column_stays_outside(tmp_path):
    net = _net()
    work = keeps_numbers(net.model(net.Mul(_rows(net), net.weight(8))), tmp_path, given=IDS)
    assert work.fusions.groups[0].spec.scale == 1 and len(work.kernels) == 2


def test_fuses_an_open_number_of_ids(tmp_path):
    net = Net()
    net.input("ids", (1, "n"))
    work = keeps_numbers(net.model(net.LayerNormalization(_rows(net), net.weight(8))), tmp_path)
    assert [g.fusion for g in work.fusions.groups] == ["embedding"]
    assert work.fusions.groups[0].spec.ids == ((1, "n"),)


def test_declines_columns_of_a_table(tmp_path):
    net = _net()
    y = net.Gather(net.weight(8, 7), "ids", axis=1)
    work = keeps_numbers(net.model(y), tmp_path, given=IDS)
    assert groups(work) == []
    assert declined(work, "embedding") == {"the tables are ((8, 7),), want rows of a matrix"}


def test_declines_a_table_of_matrices(tmp_path):
    net = _net()
    work = keeps_numbers(net.model(net.Gather(net.weight(7, 2, 3), "ids")), tmp_path, given=IDS)
    assert groups(work) == []
    assert declined(work, "embedding") == {"the tables are ((7, 2, 3),), want rows of a matrix"}


def test_a_computed_table_is_no_embedding(tmp_path):
    net = Net(table=(7, 8))
    net.input("ids", (1, 4))
    work = keeps_numbers(net.model(net.Gather("table", "ids")), tmp_path, given=IDS)
    assert groups(work) == []


def test_leaves_shared_value_alone(tmp_path):
    """The sum is read again: it is fused with the look-up, and the norm stays outside."""
    net = _net()
    placed = net.Add(_rows(net), net.weight(1, 4, 8))
    y = net.Add(net.LayerNormalization(placed, net.weight(8)), placed)
    work = keeps_numbers(net.model(y), tmp_path, given=IDS)
    assert names_of(work) == ["embedding", "norm"]
    assert work.fusions.groups[0].spec.position and not work.fusions.groups[0].spec.norm


def names_of(work) -> list[str]:
    return [group.fusion for group in work.fusions.groups]


def test_indices_of_another_type(tmp_path):
    net = Net()
    net.input("ids", (1, 4), models.onnx.TensorProto.INT32)
    given = {"ids": IDS["ids"].astype(np.int32)}
    work = keeps_numbers(net.model(_rows(net)), tmp_path, given=given)
    assert names_of(work) == ["embedding"]
