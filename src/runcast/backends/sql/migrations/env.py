"""Runs the migrations on the connection, and in the transaction, that `backends.sql.upgrade` hands over."""

from alembic import context

from runcast.backends.sql.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
