"""From an ONNX file to TVM's graph IR: load, normalise, convert."""
