"""Run by Alembic: migrate over the connection and inside the transaction that `migrate.py` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
