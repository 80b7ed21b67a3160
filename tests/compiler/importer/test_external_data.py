"""What is read; what is refused stands in tests/bad_input/."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tilewright.compiler.importer import external_data
from tilewright.errors import ModelError, UnsupportedModel

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def _tensor(kind=TensorProto.FLOAT, dims=(2, 3), **entries) -> TensorProto:
    tensor = TensorProto(name="w", data_type=kind, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": "data.bin", **entries}.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.bin").write_bytes(bytes(8) + VALUES.tobytes())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "data.bin").write_bytes(VALUES.tobytes())
    return tmp_path


def test_reads_at_an_offset_without_copying(folder):
    array = external_data.read(_tensor(offset="8", length="24"), folder)
    assert (array == VALUES).all() and isinstance(array, np.memmap)
    assert not array.flags.writeable


def test_offset_and_length_may_be_left_out(folder):
    assert (external_data.read(_tensor(location="sub/data.bin"), folder) == VALUES).all()


def test_sizes_whose_product_overflows_are_not_taken_for_an_empty_tensor(folder):
    with pytest.raises(ModelError, match="ends before the tensor does"):
        external_data.read(_tensor(dims=(1 << 32, 1 << 32)), folder)


def test_an_empty_tensor_reads_nothing(folder):
    assert external_data.read(_tensor(dims=(0, 3)), folder).shape == (0, 3)


def test_a_folder_reached_through_a_link_is_the_users_business(folder, tmp_path_factory):
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(folder)
    assert (external_data.read(_tensor(offset="8"), link) == VALUES).all()


def test_a_relative_model_folder(folder, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(folder)
    assert (external_data.read(_tensor(offset="8"), Path(".")) == VALUES).all()


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.INT4])
def test_types_without_whole_bytes_are_refused(kind, folder):
    with pytest.raises(UnsupportedModel, match="external data of type"):
        external_data.read(_tensor(kind), folder)


def test_a_type_nobody_knows_is_a_model_error(folder):
    with pytest.raises(ModelError, match="unknown data type 99"):
        external_data.read(_tensor(99), folder)
