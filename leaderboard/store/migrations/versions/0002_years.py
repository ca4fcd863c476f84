"""Adds the years of results, filled from the ledger."""

import json
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from alembic import context, op

from lulcbench.errors import LulcbenchError

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Upgrade the schema."""
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.add_column(sa.Column("years", sa.String(length=16), nullable=True))
    result = sa.table("result", *(sa.column(name, sa.String()) for name in ("submission_id", "ledger_path", "years")))
    connection, root = op.get_bind(), Path(context.config.attributes["ledger"])
    for submission_id, path in connection.execute(sa.select(result.c.submission_id, result.c.ledger_path)).all():
        years = _years(root / path)
        connection.execute(result.update().where(result.c.submission_id == submission_id).values(years=years))
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.alter_column("years", existing_type=sa.String(length=16), nullable=False)


def downgrade() -> None:
    """Downgrade the schema."""
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.drop_column("years")


def _years(path: Path) -> str:
    # Reads the format at the time of this migration, independently of the current leaderboard.store.ledger.
    try:
        return "-".join(str(year) for year in json.loads(path.read_bytes())["scores"]["years"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LulcbenchError(
            f"{path} does not state the years of a result: {error}",
            "Restore the ledger from a backup, then start again.",
        ) from error
