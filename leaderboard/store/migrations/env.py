"""Entry point of Alembic: runs the migrations on the connection of ``Database.upgrade``."""

from alembic import context

from leaderboard.store.db import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
context.run_migrations()
