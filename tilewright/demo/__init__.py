"""The demonstration behind `make demo`: find the text in a picture with a trained model.

`ppocrv4_det.onnx` is the text detector of PP-OCRv4 (PaddleOCR, Apache-2.0; see NOTICE).
"""
