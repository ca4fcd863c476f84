"""The help of all four command lines."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import typer


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and all commands below it."""
    yield name, command
    for word, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {word}")


@pytest.mark.parametrize("module", ["lulcbench.cli", "builders.__main__", "baselines.cli", "leaderboard.__main__"])
def test_every_command_argument_and_option_is_explained(module: str) -> None:
    root = typer.main.get_command(importlib.import_module(module).app)
    found = dict(commands(root, module))
    assert len(found) > 5
    assert [name for name, command in found.items() if not command.help] == []
    unexplained = [
        (name, parameter.name)
        for name, command in found.items()
        for parameter in command.params
        if not getattr(parameter, "help", None) and not getattr(parameter, "hidden", False)
    ]
    assert unexplained == []
