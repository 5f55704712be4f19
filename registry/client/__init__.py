"""The Python client: references in, verified files and tensors out."""
