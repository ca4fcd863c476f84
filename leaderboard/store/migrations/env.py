"""Alembic's entry: runs the migrations on the connection that ``Database.upgrade`` hands over."""

from alembic import context

from leaderboard.store.db import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
context.run_migrations()
