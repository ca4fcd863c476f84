"""Sessions on the server, expiry and last use of tokens, banned teams, time of a withdrawal."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_TIMES = (("team", "banned_at"), ("token", "expires_at"), ("token", "used_at"), ("submission", "withdrawn_at"))


def upgrade() -> None:
    """Upgrade the schema."""
    op.create_table(
        "browser_session",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("token_id", sa.String(length=12), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["token.id"], name=op.f("fk_browser_session_token_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_browser_session")),
    )
    for table, column in _TIMES:
        op.add_column(table, sa.Column(column, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Downgrade the schema."""
    for table, column in reversed(_TIMES):
        op.drop_column(table, column)  # not in a batch, which would drop tables that others refer to
    op.drop_table("browser_session")
