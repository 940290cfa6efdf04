"""Deployment targets: in the same process, over HTTP, and as an ONNX file."""
