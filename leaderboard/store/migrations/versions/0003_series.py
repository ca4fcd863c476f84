"""Results may be of a series of years, and of splits of any name."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_LENGTHS = {"years": (16, 512), "split": (16, 64)}  # before and after


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("result", schema=None) as batch_op:
        for name, (before, after) in _LENGTHS.items():
            batch_op.alter_column(
                name, existing_type=sa.String(before), type_=sa.String(after), existing_nullable=False
            )


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("result", schema=None) as batch_op:
        for name, (before, after) in _LENGTHS.items():
            batch_op.alter_column(
                name, existing_type=sa.String(after), type_=sa.String(before), existing_nullable=False
            )
