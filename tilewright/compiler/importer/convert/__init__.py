"""ONNX to Relax: TVM's importer, with our own converters where it has none or a wrong one."""
