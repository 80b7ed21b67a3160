from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.compiling import compile_here
from tests.net import Net, answers_each, keeps_numbers

SIZES = {"b": 2, "h": 3, "q": 5, "k": 7, "d": 4, "i": 6, "j": 1}
PRODUCTS = (
    *("bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd", "bqi,hid->bqhd", "bqhd,hdi->bqi"),
    *(
        "ij,kj->ik",
        "i,j->ji",
        "bq,bq->b",
        "bhqd,bhqd->bhq",
        "dq,dk->kq",
        "bi,i->b",
        "qi , ik -> qk",
    ),
)
OTHERS = ("bij,bj", "...ij,...jk->...ik", "bi,bd->i", "ii,ij->j", "qd,dk,ki->qi", "bqd->bdq")


def _net(equation, **given):
    net = Net(**given)
    names = []
    for number, axes in enumerate(equation.split("->")[0].replace(" ", "").split(",")):
        axes = axes.replace("...", "bh")
        sizes = [SIZES["i" if axes == "ii" else axis] for axis in axes]
        names.append(net.input(f"x{number}", tuple(sizes), models.FLOAT))
    return net.model(net.Einsum(*names, equation=equation))


@pytest.mark.parametrize("equation", PRODUCTS)
def test_products_of_matrices(equation, tmp_path):
    work = keeps_numbers(_net(equation), tmp_path)
    assert not any("einsum" in name for name in work.kernels)


@pytest.mark.parametrize("equation", OTHERS)
def test_what_is_no_such_product(equation, tmp_path):
    assert any("einsum" in name for name in keeps_numbers(_net(equation), tmp_path).kernels)


def test_open_sizes(tmp_path):
    net = Net(x=("n", 6, 4), z=("n", 5, 4))
    proto = net.model(net.Einsum("x", "z", equation="bqd,bkd->bqk"))
    drawn = np.random.default_rng(0).standard_normal
    each = ({"x": drawn((n, 6, 4)), "z": drawn((n, 5, 4))} for n in (1, 3))
    answers_each(proto, tmp_path, *({k: v.astype("f4") for k, v in one.items()} for one in each))


def test_attention_written_with_it_is_one(tmp_path):
    net = Net(q=(1, 9, 2, 8), k=(1, 9, 2, 8), v=(1, 9, 2, 8))
    scores = net.Softmax(net.Einsum("q", "k", equation="bqhd,bkhd->bhqk"), axis=-1)
    proto = net.model(net.Einsum(scores, "v", equation="bhqk,bkhd->bqhd"))
    assert compile_here(proto, tmp_path).fusions.groups[0].fusion == "attention"
    keeps_numbers(proto, tmp_path)
