"""The catalog: what the registry knows, in SQLite or PostgreSQL."""
