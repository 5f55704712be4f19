"""The routes, one resource a module: each parses, calls one use case and returns a schema."""
