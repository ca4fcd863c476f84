"""The settings of an operator: one frozen object that is passed to every part of the service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from lulcbench._parsing import MAX_TEXT_BYTES, parse_toml, read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.submission.card import Short, Url

MIB = 2**20


class Settings(BaseSettings):
    """Folders and limits of the service.

    The command line reads them with ``load``: from options, else from variables of the environment
    (``LULCBENCH_BOARD_<NAME>``, lists as JSON), else from a TOML file.

    Attributes:
        data: folder of the database (unless ``database_url`` names another) and of the uploads.
        ledger: folder of the immutable results, one sub-folder per release.
        releases: roots of the releases that submissions are scored against.
        database_url: SQLAlchemy URL; empty means SQLite in ``data``.
        public_url: base of permalinks; the Host header of a request is never used.
        contact: mailto: or https: address of the operator, for the foot of the pages, the policies and security.txt.
        access_log: log every request; refused ones (401, 403, 408, 413, 429) are always logged.
        max_upload_bytes: size limit of a predictions file; the releases of the board may imply a lower one.
        max_open_bytes: limit on the total announced size of a team's unfinished uploads.
        disk_reserve_bytes: disk space kept free of uploads, for database and ledger; workers pause below half of it.
        max_form_bytes: size limit of a file sent through the web form, which cannot resume.
        chunk_bytes: size limit of the body of one upload request.
        daily_submissions: number of uploads that a team may begin per UTC day.
        body_idle_s: seconds without data after which a request body is refused (slow-loris).
        body_rate: mean rate, in bytes/s, that a request body must reach after ``body_idle_s``.
        form_s: seconds in which a form with a file must arrive; larger files resume through the API.
        lease_s: seconds after which a worker that has not renewed its lease loses its submission.
        max_attempts: how often the scoring of a submission may be interrupted before it is refused.
        scoring_timeout_s: wall-clock limit for one scoring.
        scoring_cpu_s: CPU limit for one scoring.
        scoring_memory_bytes: limit on the address space of the scoring process.
        scoring_file_bytes: size limit of a file that the scoring process writes.
        scoring_command: the scoring process; arguments are appended (see ``leaderboard.scoring.job``).
        isolate_scoring: let the scoring process reach only the files that it needs, and no socket (Landlock, seccomp).
        keep_predictions_days: days after submission for which predictions are kept, for rescoring; 0 keeps them.
        title: name of the board, in the head and title of its pages, the feed, the API and citations.
        operator: name of the person or institution that runs the board, for the foot of its pages and its policies.
        data_url: web address where readers find data, code and baselines.
        huggingface_client_id: of an OAuth application of Hugging Face; empty leaves signing in with it off.
        huggingface_client_secret: its secret.
        huggingface_url: where Hugging Face is; another address is for tests.
        cache_s: age in seconds at which the cached table is checked against the database's change counter.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="LULCBENCH_BOARD_")

    data: Path = Path("runs/leaderboard")
    ledger: Path = Path(__file__).parent / "ledger"
    releases: tuple[Path, ...] = ()
    database_url: str = ""
    public_url: str = "http://127.0.0.1:8000"
    contact: str = Field("", pattern=r"^((mailto:|https://)[!-~]{3,200})?$")
    access_log: bool = False
    max_upload_bytes: int = Field(8 * 1024 * MIB, gt=0)
    max_open_bytes: int = Field(32 * 1024 * MIB, gt=0)
    disk_reserve_bytes: int = Field(256 * MIB, ge=0)
    max_form_bytes: int = Field(256 * MIB, gt=0)
    chunk_bytes: int = Field(8 * MIB, gt=0)
    daily_submissions: int = Field(10, gt=0)
    body_idle_s: float = Field(15.0, gt=0)
    body_rate: int = Field(4096, gt=0)
    form_s: float = Field(600.0, gt=0)
    lease_s: float = Field(60.0, gt=0)
    max_attempts: int = Field(8, gt=0)
    scoring_timeout_s: float = Field(1800.0, gt=0)
    scoring_cpu_s: int = Field(1800, gt=0)
    scoring_memory_bytes: int = Field(6 * 1024 * MIB, gt=0)
    scoring_file_bytes: int = Field(64 * MIB, gt=0)
    scoring_command: tuple[str, ...] = (sys.executable, "-m", "leaderboard.scoring.job")
    isolate_scoring: bool = True
    keep_predictions_days: int = Field(0, ge=0)
    title: Short = "lulcbench leaderboard"
    operator: Short | Literal[""] = ""
    data_url: Url = "https://github.com/lulcbench/lulcbench"
    huggingface_client_id: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,100}$")
    huggingface_client_secret: str = Field("", repr=False)
    huggingface_url: str = Field("https://huggingface.co", pattern=r"^https?://[A-Za-z0-9.:-]+$")
    cache_s: float = Field(0.5, ge=0)

    @classmethod
    def load(cls, config: Path | None = None, **given: Any) -> Settings:
        """Read the settings.

        Args:
            config: a TOML file with any of them.
            given: settings of the command line. They take precedence over the environment, and both over the file.

        Raises:
            LulcbenchError: the file cannot be read, or a setting is unknown or invalid.
        """
        try:
            content = parse_toml(read_limited(config, MAX_TEXT_BYTES), str(config)) if config else {}
            return cls(**content | EnvSettingsSource(cls)() | given)
        except (OSError, ValidationError, SettingsError) as error:
            raise LulcbenchError(f"The settings are not valid: {error}", "See leaderboard/settings.py.") from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the arguments of the constructor; ``load`` adds the environment."""
        return (init_settings,)

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite:///{self.data.resolve() / 'board.sqlite'}"

    @property
    def partial(self) -> Path:
        """Folder of uploads that are still arriving."""
        return self.data / "uploads"

    @property
    def predictions(self) -> Path:
        """Folder of complete predictions files, named by submission id."""
        return self.data / "predictions"

    @property
    def media(self) -> Path:
        """Folder of the sample images made by scoring, one sub-folder per submission."""
        return self.data / "media"

    def prepare(self) -> None:
        """Create the folders; only the user of the service can read them, since they hold other people's files."""
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.partial, self.predictions, self.media):
            folder.mkdir(exist_ok=True, mode=0o700)
        self.ledger.mkdir(parents=True, exist_ok=True)
