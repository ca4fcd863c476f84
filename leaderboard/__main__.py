"""``python -m leaderboard``: serve the board, score submissions, maintain it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import select

from lulcbench._console import console, run
from lulcbench.errors import LulcbenchError

app = typer.Typer(
    help="The leaderboard: serve it, score submissions, create tokens, export, back up.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
token_app = typer.Typer(help="Access for teams.", no_args_is_help=True)
app.add_typer(token_app, name="token")
ledger_app = typer.Typer(help="The results as files.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")


@app.callback()
def _root(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="Folder of database, uploads.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    release: Annotated[list[Path] | None, typer.Option(help="Root of a release to score against; repeatable.")] = None,
    database: Annotated[str, typer.Option(help="postgresql:// or sqlite://")] = "",
    config: Annotated[Path | None, typer.Option(help="TOML file with any of the settings.")] = None,
) -> None:
    """Like all settings, the options are also read from the environment: LULCBENCH_BOARD_DATA, …_DATABASE_URL."""
    log_format = "%(asctime)s %(name)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=log_format, stream=sys.stderr, force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from leaderboard.settings import Settings

    given: dict[str, Any] = {"data": data, "ledger": ledger, "releases": release, "database_url": database}
    context.obj = Settings.load(config, **{key: value for key, value in given.items() if value})


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    url: Annotated[
        str,
        typer.Option(help="Public address, for permalinks and the form; default: of the settings, else host and port."),
    ] = "",
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Scoring workers to run beside the web server.", show_default="1, 0 without --release"
        ),
    ] = None,
) -> None:
    """Run the web server and scoring workers, and restart them if they end.

    Without --release, the results of the ledger are shown.
    """
    from leaderboard.server import listen
    from leaderboard.supervisor import supervise

    workers = min(1, len(context.obj.releases)) if workers is None else workers
    if not context.obj.releases:
        console.print("There is no --release to score against: submissions wait until a worker scores them.")
    _check_releases(context.obj, workers)
    with listen(host, port) as listener:
        settings = _at(context, url, f"http://{host}:{listener.getsockname()[1]}")
        console.print(f"Leaderboard at {settings.public_url} (stop with Ctrl-C)", highlight=False)
        code = supervise(settings, listener, workers)
    if code:
        raise typer.Exit(code)


@app.command()
def web(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    url: Annotated[str, typer.Option(help="Public address; default: of the settings, else host and port.")] = "",
    fd: Annotated[int, typer.Option(hidden=True)] = -1,
    parent: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Run only the web server, for systemd or a container that restarts it itself."""
    import socket

    from leaderboard.server import listen
    from leaderboard.server import serve as run_server

    _obey(context, parent)
    if fd >= 0:
        run_server(context.obj, socket.socket(fileno=fd))
        return
    with listen(host, port) as listener:
        settings = _at(context, url, f"http://{host}:{listener.getsockname()[1]}")
        console.print(f"Leaderboard at {settings.public_url} (stop with Ctrl-C)", highlight=False)
        run_server(settings, listener)


@app.command()
def worker(context: typer.Context, parent: Annotated[int, typer.Option(hidden=True)] = 0) -> None:
    """Score submissions as they arrive; any number of workers may run on machines that share folders and database."""
    _obey(context, parent)
    _check_releases(context.obj, 1)
    _worker(context).run()


@app.command()
def score(context: typer.Context) -> None:
    """Score the oldest submission in the queue, if there is one."""
    _check_releases(context.obj, 1)
    worker = _worker(context)
    if not worker.has_room():
        raise LulcbenchError(
            f"Less than half of disk_reserve_bytes is free in {context.obj.data} or {context.obj.ledger}.",
            "Delete files there, or lower disk_reserve_bytes; then score again.",
        )
    typer.echo("scored one submission" if worker.step() else "the queue is empty")


@app.command()
def rebuild(context: typer.Context) -> None:
    """Add missing results of the ledger to the database; this rebuilds the board if the database is empty."""
    from leaderboard.store.records import replay

    typer.echo(f"{replay(_database(context), context.obj)} results added")


@app.command()
def export(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder to create.")],
    url: Annotated[
        str, typer.Option(help="Address of the exported folder, for permalinks; default: relative links.")
    ] = "",
) -> None:
    """Write the board as Parquet, CSV, ledger files and static pages that work in any folder."""
    from leaderboard.export import export as write

    typer.echo(write(_database(context), context.obj, out, url))


@app.command()
def publish(
    context: typer.Context,
    remote: Annotated[str, typer.Argument(help="Git repository: an address, or a path.")],
    branch: Annotated[str, typer.Option(help="Branch that is served as pages.")] = "gh-pages",
    url: Annotated[str, typer.Option(help="Address at which it is served, for permalinks.")] = "",
) -> None:
    """Export the board, and push it with its ledger to a branch that is served as pages (GitHub, Hugging Face)."""
    from leaderboard.publish import publish as push

    typer.echo(push(_database(context), context.obj, remote, branch, url) or "nothing has changed")


@app.command()
def backup(context: typer.Context, out: Annotated[Path, typer.Argument(help="Tar file to write.")]) -> None:
    """Write database, ledger and files into one tar; the service may keep running.

    The faults of a damaged ledger are listed (exit code 1); keep the older backups then.
    """
    from leaderboard.store.backups import backup as write

    faults = write(_database(context), context.obj, out)
    typer.echo(out)
    _tell(faults)


@app.command()
def restore(context: typer.Context, path: Annotated[Path, typer.Argument(help="Tar file of a backup.")]) -> None:
    """Restore a backup into new folders and an empty database; list what was damaged in its ledger (exit code 1)."""
    from leaderboard.store.backups import restore as read
    from leaderboard.store.db import Database

    faults = read(Database(context.obj.url), context.obj, path)
    typer.echo(context.obj.data)
    _tell(faults)


@app.command()
def tier(
    context: typer.Context,
    submission: Annotated[str, typer.Argument(help="Id of a scored submission.")],
    name: Annotated[str, typer.Argument(help="reported, rescored or reproduced")],
    evidence: Annotated[str, typer.Option(help="Grounds for the tier; kept in the audit log.")],
) -> None:
    """Set the trust tier of a result, for example after its weights gave the same scores."""
    from leaderboard.store.standing import set_tier

    set_tier(_database(context), context.obj, "operator", submission, name, evidence)


@app.command()
def ban(
    context: typer.Context,
    team: Annotated[str, typer.Argument(help="Name of a team.")],
    end: Annotated[bool, typer.Option("--end", help="End the ban.")] = False,
) -> None:
    """Ban a team: its tokens are not accepted, and what it has in the queue is not published."""
    from leaderboard.store.accounts import ban as set_ban

    set_ban(_database(context), team, not end)


@app.command()
def hide(
    context: typer.Context,
    submission: Annotated[str, typer.Argument(help="Id of a submission.")],
    end: Annotated[bool, typer.Option("--end", help="Show it again.")] = False,
) -> None:
    """Take a submission off the board in the operator's name; its page states this."""
    from leaderboard.store import standing

    change = standing.undo if end else standing.withdraw
    change(_database(context), context.obj, standing.OPERATOR, submission)


@app.command()
def retry(context: typer.Context, submission: Annotated[str, typer.Argument(help="Id of a submission.")]) -> None:
    """Put a refused submission, or one whose worker is gone, back into the queue."""
    from leaderboard.store import standing

    standing.retry(_database(context), submission)


@app.command()
def rescore(
    context: typer.Context,
    submissions: Annotated[list[str] | None, typer.Argument(help="Ids of submissions; default: all.")] = None,
) -> None:
    """Score kept predictions again, after an upgrade of the scorer; the older results stay in their own table."""
    from leaderboard.scoring.rescore import rescore as again

    _check_releases(context.obj, 1)
    done = False
    for submission, result in again(_worker(context), submissions or ()):
        typer.echo(f"{submission}: {result}")
        done = True
    if not done:
        typer.echo("all are of this scorer version")


@app.command()
def rename(
    context: typer.Context,
    team: Annotated[str, typer.Argument(help="Present name of the team.")],
    new: Annotated[str, typer.Argument(help="New name.")],
    author: Annotated[
        list[str] | None, typer.Option(help="Authors of all cards that the team has now; repeatable.")
    ] = None,
) -> None:
    """Rename a team everywhere, in the ledger too, for example to remove a person's name; the scores stay."""
    from leaderboard.store.names import rename as change

    typer.echo(f"{change(_database(context), context.obj, team, new, author or ())} ledger files changed")


@app.command()
def report(
    context: typer.Context,
    scores: Annotated[Path, typer.Argument(help="Scores, as 'lulcbench score --json FILE' writes them.")],
    card: Annotated[Path, typer.Argument(help="Model card (TOML).")],
    team: Annotated[str, typer.Option(help="Name of the team that computed them.")],
) -> None:
    """Add scores that a team computed itself; the board marks them as self-reported."""
    from leaderboard.ranking.reported import add_reported

    typer.echo(add_reported(_database(context), context.obj, scores, card, team))


@app.command()
def audit(context: typer.Context, last: Annotated[int, typer.Option(min=1, help="Number of lines.")] = 50) -> None:
    """Show the last lines of the audit log."""
    from leaderboard.store.db import Audit

    with _database(context).read() as session:
        for line in reversed(session.scalars(select(Audit).order_by(Audit.id.desc()).limit(last)).all()):
            typer.echo(f"{line.at:%Y-%m-%d %H:%M:%S} {line.actor} {line.action} {line.subject} {line.detail}")


@ledger_app.command("verify")
def ledger_verify(
    context: typer.Context,
    head: Annotated[str, typer.Option(help="Head of the chain noted earlier, which the ledger must contain.")] = "",
) -> None:
    """Check every file of the ledger; list those that are damaged, altered, missing or stray (exit code 1 if any)."""
    from leaderboard.store import chain
    from leaderboard.store.records import verify

    _tell(verify(_database(context), context.obj, head))
    typer.echo(f"all files are intact; head {chain.load(context.obj.ledger).head}")


@ledger_app.command("seal")
def ledger_seal(context: typer.Context) -> None:
    """Add files that were put into the ledger on purpose, such as those of another ledger, to its chain."""
    from leaderboard.store import ledger

    context.obj.prepare()
    typer.echo(f"{ledger.seal(context.obj.ledger)} files added to the chain")


@token_app.command("create")
def token_create(
    context: typer.Context,
    team: Annotated[str, typer.Argument(help="Name of the team; a new one is created.")],
    scope: Annotated[str, typer.Option(help="submit or admin")] = "submit",
    days: Annotated[int, typer.Option(min=0, help="Days after which it expires; 0: it does not.")] = 0,
) -> None:
    """Create a token for a team and show it once."""
    from leaderboard.store.accounts import create_token

    typer.echo(create_token(_database(context), team, scope, days))


@token_app.command("revoke")
def token_revoke(context: typer.Context, token: Annotated[str, typer.Argument(help="The token or its id.")]) -> None:
    """Revoke a token with immediate effect."""
    from leaderboard.store.accounts import revoke_token

    revoke_token(_database(context), token)


@token_app.command("list")
def token_list(context: typer.Context) -> None:
    """List tokens: id, team, scope, dates."""
    from leaderboard.store.db import Token

    with _database(context).read() as session:
        for token in session.scalars(select(Token).order_by(Token.created_at)):
            state = f"revoked {token.revoked_at:%Y-%m-%d}" if token.revoked_at else "valid"
            if token.expires_at and not token.revoked_at:
                state = f"expires {token.expires_at:%Y-%m-%d}"
            if token.team.banned_at:
                state += f", team banned {token.team.banned_at:%Y-%m-%d}"
            state += f", last used {token.used_at:%Y-%m-%d}" if token.used_at else ", never used"
            typer.echo(f"{token.id}  {token.team.name}  {token.scope}  {token.created_at:%Y-%m-%d}  {state}")


def _at(context: typer.Context, url: str, listening: str) -> Any:
    """The settings with the public address: of the option, else of the settings, else where the server listens."""
    given = context.obj.public_url if "public_url" in context.obj.model_fields_set else ""
    return context.obj.model_copy(update={"public_url": url or given or listening})


def _tell(faults: Sequence[LulcbenchError]) -> None:
    """List faults of the ledger, if there are any, and end with exit code 1."""
    for fault in faults:
        typer.echo(str(fault))
    if faults:
        raise typer.Exit(1)


def _obey(context: typer.Context, parent: int) -> None:
    """Take the settings from the supervisor ``parent``, and end with it; do nothing without one."""
    from leaderboard.scoring.job import die_with_parent
    from leaderboard.settings import Settings

    if parent:
        die_with_parent(parent)
        context.obj = Settings.model_validate_json(sys.stdin.read())


def _database(context: typer.Context) -> Any:
    from leaderboard.store.db import Database
    from leaderboard.store.records import prepare

    context.obj.prepare()
    db = Database(context.obj.url)
    prepare(db, context.obj)
    return db


def _worker(context: typer.Context) -> Any:
    from leaderboard.scoring.worker import Worker

    return Worker(_database(context), context.obj)


def _check_releases(settings: Any, workers: int) -> None:
    from lulcbench.release import Manifest

    if workers and not settings.releases:
        raise LulcbenchError("There is no release to score against.", "Give --release ROOT before the command.")
    for root in settings.releases:
        Manifest.load(root)


if __name__ == "__main__":
    run(app)
