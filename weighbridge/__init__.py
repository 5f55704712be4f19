"""The public name."""
