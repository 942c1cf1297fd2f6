"""The manual page: written prose, with every option as its parser describes it."""

import time
from pathlib import Path

from command.parsed import Command, Option, commands, window

PROSE = Path(__file__).with_name("mirrorgui.1.in")


def manual(version: str, epoch: int) -> str:
    """Return the page in the language of ``man``.

    Args:
        version: of the application.
        epoch: the date that the page carries, in seconds since 1970.
    """
    page = PROSE.read_text(encoding="utf-8")
    more = ""
    for command in commands():
        if f"@OPTIONS {command.name}@\n" not in page:
            # The prose does not speak of it yet: better its options alone than nothing.
            more += f".SH {_escaped(f'mirrorgui {command.name}').upper()}\n"
            more += f"{_escaped(_sentence(command.description or command.help))}\n"
            more += _options(command)
    page = page.replace("@MORE@\n", more)
    page = page.replace("@SYNOPSIS@\n", "".join(map(_synopsis, (window(), *commands()))))
    for command in (window(), *commands()):
        page = page.replace(f"@OPTIONS {command.name or 'window'}@\n", _options(command))
    date = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    return page.replace("@VERSION@", version).replace("@DATE@", date)


def _synopsis(command: Command) -> str:
    lines = [".SY mirrorgui"]
    if command.name:
        lines.append(f".B {_escaped(command.name)}")
    if command.options:
        lines.append(r".RI [ option \&.\|.\|.\& ]")
    for image in command.images:
        bare = image.strip("[]")
        lines.append(f".RI [ {bare} ]" if bare != image else f".I {bare}")
    return "\n".join([*lines, ".YS"]) + "\n"


def _options(command: Command) -> str:
    return "".join(_option(option) for option in command.options)


def _option(option: Option) -> str:
    flags = ", ".join(rf"\fB{_escaped(flag)}\fR" for flag in option.flags)
    if option.choices and "|" in option.metavar:
        flags += " " + r"\||\|".join(rf"\fB{_escaped(word)}\fR" for word in option.choices)
    elif option.metavar:
        flags += rf" \fI{_escaped(option.metavar)}\fR"
    return f".TP\n{flags}\n{_escaped(_sentence(option.help))}\n"


def _sentence(phrase: str) -> str:
    return f"{phrase[:1].upper()}{phrase[1:]}{'' if phrase.endswith('.') else '.'}"


def _escaped(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
