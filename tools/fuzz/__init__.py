"""Random graphs, compiled and compared with ONNX Runtime: `python -m tools.fuzz`."""
