"""Planned uploads: a plan, parts in any order over any number of connections, and one step that makes the version."""
