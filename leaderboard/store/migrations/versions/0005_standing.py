"""Who withdrew a submission, what it was before, how often its team undid this, and when it was last claimed."""

import json
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from alembic import context, op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Upgrade the schema."""
    op.add_column("submission", sa.Column("withdrawn_by", sa.String(length=8), nullable=True))
    op.add_column("submission", sa.Column("status_before", sa.String(length=12), nullable=True))
    op.add_column("submission", sa.Column("undos", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("submission", sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True))
    submission = sa.table(
        "submission",
        *map(sa.column, ("id", "team_id", "status", "finished_at", "withdrawn_by", "status_before")),
    )
    team = sa.table("team", sa.column("id"), sa.column("name"))
    result = sa.table("result", sa.column("submission_id"))
    connection, root = op.get_bind(), Path(context.config.attributes["ledger"])
    scored = set(connection.scalars(sa.select(result.c.submission_id)))
    query = sa.select(submission.c.id, submission.c.finished_at, team.c.name).join(
        team, team.c.id == submission.c.team_id
    )
    for name, finished_at, team_name in connection.execute(query.where(submission.c.status == "withdrawn")).all():
        before = "scored" if name in scored else "refused" if finished_at else "queued"
        values = {"withdrawn_by": _by(root, name, team_name), "status_before": before}
        connection.execute(submission.update().where(submission.c.id == name).values(**values))


def downgrade() -> None:
    """Downgrade the schema."""
    for column in ("claimed_at", "undos", "status_before", "withdrawn_by"):
        op.drop_column("submission", column)  # not in a batch, which would drop tables that others refer to


def _by(root: Path, submission: str, team: str) -> str:
    """Who withdrew a submission: its last event in the ledger, else the audit log; the operator if neither states it.

    Reads the format at the time of this migration, independently of the current leaderboard.store.ledger.
    """
    paths = sorted(root.glob(f"*/{submission}.withdrawn*.json"), key=lambda path: (len(path.name), path.name))
    if paths:
        try:
            actor = json.loads(paths[-1].read_bytes())["actor"]
        except (OSError, ValueError, KeyError, TypeError):
            return "operator"
        return "team" if actor == team else "operator"
    audit = sa.table("audit", *map(sa.column, ("id", "actor", "action", "subject")))
    lines = sa.select(audit.c.actor).where(audit.c.subject == submission, audit.c.action == "submission.withdraw")
    last = op.get_bind().scalars(lines.order_by(audit.c.id.desc()).limit(1)).first()
    return "team" if last is not None and str(last).startswith(f"{team}/") else "operator"
