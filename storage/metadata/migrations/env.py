"""Run by Alembic: migrate over the connection and inside the transaction that `migrate.py` opened."""

from alembic import context

attributes = context.config.attributes
context.configure(connection=attributes["connection"], target_metadata=attributes["metadata"])
context.run_migrations()
