"""The deployment target `onnx`: a registered version as an ONNX file."""
