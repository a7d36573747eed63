"""Migrations, one for each change of the schema."""
