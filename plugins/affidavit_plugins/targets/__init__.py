"""Deployment targets: in the same process, and over HTTP."""
