"""Proof: compare a compiled model with ONNX Runtime, within an error budget."""
