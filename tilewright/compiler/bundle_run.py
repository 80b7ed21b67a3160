"""Run the model in this folder and compare with the golden outputs: python run.py

Needs: pip install tilewright
"""

import sys
from pathlib import Path

import numpy as np

try:
    import tilewright
except ImportError:
    sys.exit("this bundle needs the package tilewright: pip install tilewright")

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run once on the golden inputs; 0 when the outputs agree."""
    model = tilewright.load(HERE / "model.so")
    inputs = dict(np.load(HERE / "golden_inputs.npz"))
    outputs = model(inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for spec, array in zip(model.outputs, outputs, strict=True):
        print(f"{spec}: mean {np.mean(array):.6g}")
    report = tilewright.verify(HERE)
    print(report)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
