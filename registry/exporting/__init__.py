"""A team's models as plain files and JSON: written from one service, read into another."""
