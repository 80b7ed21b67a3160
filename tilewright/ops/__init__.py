"""Specs: what a fused group computes, as frozen values that fusions return and rules read.

A dimension is a number, or the name of a symbolic size.
"""

from tilewright.ops.attention import AttentionSpec
from tilewright.ops.concat import ConcatSpec
from tilewright.ops.conv import ConvSpec
from tilewright.ops.conv_chain import ConvChainSpec
from tilewright.ops.elementwise import ActivationSpec, SoftmaxSpec
from tilewright.ops.embedding import EmbeddingSpec
from tilewright.ops.gemm import GemmSpec
from tilewright.ops.mlp import MlpSpec
from tilewright.ops.norm import NormSpec
from tilewright.ops.recurrent import RecurrentSpec
from tilewright.ops.rotary import RotarySpec
from tilewright.ops.spec import Dim, Spec
from tilewright.ops.squeeze_excitation import SqueezeExcitationSpec
from tilewright.ops.step import Step

__all__ = [
    "ActivationSpec",
    "AttentionSpec",
    "ConcatSpec",
    "ConvChainSpec",
    "ConvSpec",
    "Dim",
    "EmbeddingSpec",
    "GemmSpec",
    "MlpSpec",
    "NormSpec",
    "RecurrentSpec",
    "RotarySpec",
    "SoftmaxSpec",
    "Spec",
    "SqueezeExcitationSpec",
    "Step",
]
