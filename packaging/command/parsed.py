"""The commands and their options, as the parsers know them."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import mirrorgui  # noqa: E402
from mirrorgui.__main__ import window_parser  # noqa: E402
from mirrorgui.block.formats import LABELS  # noqa: E402
from mirrorgui.cli import _parser as headless_parser  # noqa: E402

_FILES = ("SOURCE", "TARGET", "IMAGE", "A", "B", "PATH", "FILE", "PIDFILE")
_FORMAT = "F"

VERSION = mirrorgui.__version__


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command.

    Attributes:
        flags: as they are typed, such as ``--json``.
        metavar: how help names its value; empty when it takes none.
        help: one phrase, without a full stop, but for the three dots of a list that goes on.
        choices: the values it takes, when they can be told.
        is_file: its value names a file.
    """

    flags: tuple[str, ...]
    metavar: str
    help: str
    choices: tuple[str, ...]
    is_file: bool


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or the window, whose name is empty.

    Attributes:
        name: the word that is typed.
        help: one phrase.
        description: sentences, or empty.
        options: in the order of help.
        images: how help names the arguments without a flag, ``[TARGET]`` for an optional one.
    """

    name: str
    help: str
    description: str
    options: tuple[Option, ...]
    images: tuple[str, ...]


def window() -> Command:
    """Return what the command does when no other command is named."""
    parser = window_parser()
    return _command("", "open the window", parser)


def commands() -> tuple[Command, ...]:
    """Return the commands that need no window."""
    (group,) = (
        action
        for action in headless_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
    return tuple(_command(name, helps[name], parser) for name, parser in group.choices.items())


def _command(name: str, help_text: str, parser: argparse.ArgumentParser) -> Command:
    actions = parser._actions
    return Command(
        name,
        help_text,
        parser.description or "",
        tuple(_option(action) for action in actions if action.option_strings),
        tuple(_image(action) for action in actions if not action.option_strings),
    )


def _image(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest.upper())
    return f"[{name}]" if action.nargs == "?" else name


def _option(action: argparse.Action) -> Option:
    takes_value = action.nargs is None
    metavar = str(action.metavar or action.dest.upper()) if takes_value else ""
    choices = tuple(str(choice) for choice in action.choices or ())
    if "|" in metavar:
        choices = tuple(metavar.split("|"))
    elif metavar == _FORMAT:
        choices = tuple(LABELS)
    text = action.help or ""
    text = text if text.endswith("...") else text.removesuffix(".")
    return Option(tuple(action.option_strings), metavar, text, choices, metavar in _FILES)
