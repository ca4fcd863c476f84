"""The tables, and read and write transactions. The results are files of the ledger; the database is their index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, MetaData, String, create_engine, event, update
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DatabaseError, OperationalError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

from lulcbench.errors import LulcbenchError

TEAM, OPERATOR = "team", "operator"  # who withdrew a submission


class UtcDateTime(TypeDecorator[datetime]):
    """Time in UTC with its time zone, also on SQLite, which does not store the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Add the zone to the naive values that SQLite returns."""
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class Base(DeclarativeBase):
    """Base class of the tables, with stable constraint names for the migrations."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON}  # noqa: RUF012 - SQLAlchemy's own protocol


class Team(Base):
    """A team that submits."""

    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    banned_at: Mapped[datetime | None]


class Token(Base):
    """Access of a team. Only the SHA-256 of the secret is stored; it has 256 random bits, so no slow hash is needed."""

    __tablename__ = "token"
    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"))
    scope: Mapped[str] = mapped_column(String(8))
    digest: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    team: Mapped[Team] = relationship(lazy="joined", innerjoin=True)


class BrowserSession(Base):
    """A signed-in browser. Its cookie holds the number of which only the SHA-256 is stored."""

    __tablename__ = "browser_session"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_id: Mapped[str] = mapped_column(ForeignKey("token.id"))
    created_at: Mapped[datetime]


class Upload(Base):
    """A file being uploaded. Its offset is the size of the partial file, so that the two agree even after a crash."""

    __tablename__ = "upload"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"))
    submission_id: Mapped[str] = mapped_column(String(32), unique=True)
    filename: Mapped[str] = mapped_column(String(200))
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    card: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]


class Submission(Base):
    """A predictions file with its card, from the queue to the board.

    ``status`` is queued, scoring, scored, refused or withdrawn. ``lease_until`` hides a row from other workers: it is
    the end of the lease while scoring, and the earliest next try while queued. Of a withdrawn one, ``withdrawn_by`` is
    ``TEAM`` or ``OPERATOR``, and ``status_before`` what it returns to. ``superseded_by`` counts only while that
    submission is on the board (``standing.successor``). ``undos`` is how often its team has undone a withdrawal.
    """

    __tablename__ = "submission"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"))
    status: Mapped[str] = mapped_column(String(12), index=True)
    tier: Mapped[str] = mapped_column(String(12))
    filename: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    card: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    what: Mapped[str | None]
    remedy: Mapped[str | None]
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    superseded_by: Mapped[str | None] = mapped_column(String(32))
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None] = mapped_column(String(8))
    status_before: Mapped[str | None] = mapped_column(String(12))
    undos: Mapped[int] = mapped_column(default=0)
    claimed_at: Mapped[datetime | None]
    team: Mapped[Team] = relationship(lazy="joined", innerjoin=True)
    result: Mapped[Result | None] = relationship(lazy="joined")

    def take_off(self, by: str, at: datetime) -> None:
        """Withdraw it, by ``TEAM`` or ``OPERATOR``; a later withdrawal replaces an earlier one."""
        if self.status != "withdrawn":
            self.status_before = "queued" if self.status == "scoring" else self.status
        self.status, self.withdrawn_by, self.withdrawn_at = "withdrawn", by, at
        self.lease_owner = self.lease_until = None

    def put_back(self) -> None:
        """Undo a withdrawal; does nothing if there is none."""
        if self.status == "withdrawn":
            self.status = self.status_before or "queued"
            self.status_before = self.withdrawn_by = self.withdrawn_at = None


class Result(Base):
    """The index entry of a scored submission; the primary key prevents a second result."""

    __tablename__ = "result"
    submission_id: Mapped[str] = mapped_column(ForeignKey("submission.id"), primary_key=True)
    release_key: Mapped[str] = mapped_column(String(160), index=True)
    simulated: Mapped[bool]
    task: Mapped[str] = mapped_column(String(32))
    years: Mapped[str] = mapped_column(String(512))
    split: Mapped[str] = mapped_column(String(64))
    summary: Mapped[dict[str, Any]]
    ledger_path: Mapped[str] = mapped_column(String(255))
    ledger_digest: Mapped[str] = mapped_column(String(64))
    scored_at: Mapped[datetime]


class Quota(Base):
    """Number of uploads that a team began on a UTC day."""

    __tablename__ = "quota"
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    used: Mapped[int]


class Audit(Base):
    """Audit log: actor, action, subject and time; rows are only ever added."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(80))
    action: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]]


class Revision(Base):
    """A single row whose value grows with every visible change, so that cached pages can be recognised as stale."""

    __tablename__ = "revision"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


class Database:
    """An engine with ``read`` and ``write`` transactions.

    On SQLite a write transaction takes the write lock at its beginning, so that what it reads does not change until
    it commits; on PostgreSQL the statements lock the rows on which they depend.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL; ``postgresql://`` means psycopg 3.
    """

    def __init__(self, url: str) -> None:
        self.url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self.sqlite = self.url.startswith("sqlite")
        self.engine = create_engine(self.url, pool_pre_ping=not self.sqlite)
        if self.sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._write_engine = self.engine.execution_options(lulcbench_write=True)

    def upgrade(self, ledger: Path) -> None:
        """Migrate the schema to the newest version; safe when several processes start at the same time.

        Args:
            ledger: folder of the results, from which new columns of old rows are filled.

        Raises:
            LulcbenchError: the ledger file of a row is missing, the database is damaged, or its schema is newer than
                this version of the service.
        """
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        try:
            with self._write_engine.begin() as connection:
                if not self.sqlite:
                    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4800)")
                config.attributes["connection"] = connection
                config.attributes["ledger"] = ledger
                command.upgrade(config, "head")
        except CommandError as error:
            raise LulcbenchError(
                f"The database has a schema that this version of the service does not know ({error}).",
                "It was used by a newer version: upgrade the service, or restore a backup of this version.",
            ) from error
        except DatabaseError as error:
            if isinstance(error, OperationalError | ProgrammingError):  # unavailable, or a bug
                raise
            raise LulcbenchError(
                f"The database {self.engine.url.database} is damaged: {error.orig}.",
                "Restore a backup into a new folder, or move it away and run 'python -m leaderboard rebuild'.",
            ) from error

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read transaction: a consistent view."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A write transaction: commits at the end, rolls back on any exception."""
        with Session(self._write_engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def touch(session: Session) -> None:
    """Record that what readers see has changed; must be in the same transaction as the change."""
    session.execute(update(Revision).values(value=Revision.value + 1))


def audit(session: Session, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Add a line to the audit log; must be in the same transaction as the action."""
    session.add(Audit(at=now(), actor=actor, action=action, subject=subject, detail=detail))


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions itself; _begin_sqlite does
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("lulcbench_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
