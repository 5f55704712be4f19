"""Filling a registry with what others have published, or what is in the caches of this machine already."""
