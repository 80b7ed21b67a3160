"""Every fusion, in the order in which they are tried: the first that matches wins."""

from __future__ import annotations

from tilewright.passes.activation import ACTIVATION
from tilewright.passes.attention import ATTENTION
from tilewright.passes.conv_block import CONV_BLOCK
from tilewright.passes.conv_chain import CONV_CHAIN
from tilewright.passes.conv_concat import CONV_CONCAT
from tilewright.passes.embedding import EMBEDDING
from tilewright.passes.linear import LINEAR
from tilewright.passes.mlp import MLP
from tilewright.passes.norm import NORM
from tilewright.passes.pool_linear import POOL_LINEAR
from tilewright.passes.rotary import ROTARY
from tilewright.passes.softmax import SOFTMAX
from tilewright.passes.squeeze_excitation import SQUEEZE_EXCITATION

DEFAULT_FUSIONS = (
    ATTENTION,  # first: its products would be taken as linear layers
    SOFTMAX,  # after attention, which holds one
    SQUEEZE_EXCITATION,  # before conv_block: its 1x1 convolutions are inside
    MLP,  # before linear: it is two of them
    ROTARY,
    EMBEDDING,  # before norm, which would take its last step
    CONV_CHAIN,  # before conv_block: it is two of them
    CONV_CONCAT,  # before conv_block: its parts are such blocks
    CONV_BLOCK,
    POOL_LINEAR,  # before linear: it ends in one
    NORM,
    LINEAR,
    ACTIVATION,  # last: an activation belongs into the store of what it follows
)
