"""Alembic's folder: `env.py` connects, `versions/` has one module per step. `backends.sql.upgrade` runs them."""
