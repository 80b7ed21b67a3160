"""Every mutation, in one list; each has its reason beside it, in the module of its theme."""

from __future__ import annotations

import random

from tools.mutate.attributes import ATTRIBUTES
from tools.mutate.case import Case, Mutation
from tools.mutate.files import FILES
from tools.mutate.graphs import GRAPHS
from tools.mutate.models import MODELS
from tools.mutate.names import NAMES
from tools.mutate.sizes import SIZES
from tools.mutate.tensors import TENSORS

MUTATIONS: tuple[Mutation, ...] = (*FILES, *NAMES, *GRAPHS, *TENSORS, *ATTRIBUTES, *SIZES)


def mutant(seed: int, number: int) -> tuple[Mutation, str, Case]:
    """Mutant `number` of `seed`: what was done to it, which model it was, and the result.

    Mutations take turns, so that few mutants are of many kinds; the rest is drawn.
    """
    mutation = MUTATIONS[number % len(MUTATIONS)]
    rng = random.Random(f"{seed} {number}")
    for name in rng.sample(list(MODELS), len(MODELS)):
        case = MODELS[name]()
        if mutation.mutate(case, rng) is not False:
            return mutation, name, case
    raise ValueError(f"{mutation.name} fits none of the models")
