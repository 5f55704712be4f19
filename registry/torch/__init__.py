"""The glue to PyTorch: the only place that imports it."""
