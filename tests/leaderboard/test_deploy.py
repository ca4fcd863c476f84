"""The files for deployment have what backups, restores and publishing need."""

from __future__ import annotations

import re
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_head_of_the_compose_file_names_every_setting_without_a_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    head = text[: text.index("\nname:")]
    needed = set(re.findall(r"\$\{(\w+):\?\}", text))
    assert "RELEASE" in needed
    assert needed == set(re.findall(r"^#   (\w+)=", head, re.MULTILINE))


def test_the_image_has_git_and_the_client_programs_of_the_database() -> None:
    image = (DEPLOY / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    version = re.findall(r"image: postgres:(\d+)", (DEPLOY / "compose.yaml").read_text())
    assert [f"postgresql-client-{number}" in image.split() for number in version] == [True]
    assert "git" in image.split()


def test_every_folder_that_containers_write_to_is_a_volume_of_their_user() -> None:
    image, compose = ((DEPLOY / name).read_text() for name in ("Dockerfile", "compose.yaml"))
    shared = compose.split("x-board: &board")[1].split("services:")[0]
    owned = set(re.findall(r"install --directory --owner board .* (/data .*)$", image, re.MULTILINE)[0].split())
    written = set(re.findall(r'"\w+:(/\w+)"', shared)) | set(re.findall(r"(?:backup|restore) \"?(/\w+)/", compose))
    assert written == owned == {"/data", "/ledger", "/backups"}


def test_systemd_creates_the_folder_of_the_backups() -> None:
    unit = (DEPLOY / "systemd" / "lulcbench-board-backup.service").read_text()
    created = {f"/var/lib/{name}" for name in unit.split("\nStateDirectory=")[1].splitlines()[0].split()}
    used = set(re.findall(r"(/var/[\w/-]+?)(?:/\$|/\*| )", unit.split("ExecStart=", 1)[1]))
    assert used == {"/var/lib/lulcbench-board-backups"}
    assert used < created


def test_web_and_worker_have_limits_of_memory() -> None:
    services = (DEPLOY / "compose.yaml").read_text().split("services:")[1]
    web, worker = (services.split(f"\n  {name}:")[1].split("\n\n")[0] for name in ("web", "worker"))
    assert ("mem_limit: 2g" in web, "mem_limit: 8g" in worker) == (True, True)
    units = {name: (DEPLOY / "systemd" / f"lulcbench-board-{name}.service").read_text() for name in ("web", "worker")}
    found = {name: re.findall(r"^MemoryMax=(\d+)G$", unit, re.MULTILINE) for name, unit in units.items()}
    assert found == {"web": ["2"], "worker": ["8"]}
