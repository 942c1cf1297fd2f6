"""The command: sends headless words to ``mirrorgui.cli`` and everything else to the window.

Both are imported only when they are asked for, so that headless work never loads Qt.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mirrorgui
from mirrorgui import logs
from mirrorgui.errors import InvalidInput, MirrorGUIError
from mirrorgui.ui.options import WindowOptions

if TYPE_CHECKING:
    from mirrorgui.instance import Claim
    from mirrorgui.qmp.address import Address

HEADLESS = ("run", "serve", "info", "compare")

# What the extra "gui" of the package brings.
_EXTRA = ("PySide6", "shiboken6", "pyqtgraph", "qasync", "jeepney")

# Qt's platforms that need a display server; every other one draws somewhere else.
_ON_A_SCREEN = ("", "xcb", "wayland", "wayland-egl")

_COMMANDS = """\
without a window:
  mirrorgui run SOURCE TARGET ...    mirror, with progress on stderr
  mirrorgui serve --qmp ADDRESS      the engine alone, controlled over QMP
  mirrorgui info IMAGE               format, size, backing chain
  mirrorgui compare A B              0 identical, 1 different, 2 error
  (each explains itself with --help; an image that is called 'run' is './run')

MIRRORGUI_LOG=DEBUG (or INFO, WARNING, ERROR) sets how much is logged to stderr.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the arguments without the program's name; the process's own when None.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong usage; ``run`` and ``compare`` have more.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        logs.start()
        logs.catch_unexpected()
        if arguments and arguments[0] in HEADLESS:
            from mirrorgui import cli

            return cli.main(arguments)
        return _window(_parse(arguments))
    except InvalidInput as error:
        return _say(2, str(error))
    except MirrorGUIError as error:
        return _say(1, str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _say(status: int, sentence: str) -> int:
    print(f"mirrorgui: {sentence}", file=sys.stderr)  # noqa: T201 - the terminal is the place
    return status


def window_parser() -> argparse.ArgumentParser:
    """Make the parser of what is not a headless command."""
    parser = argparse.ArgumentParser(
        prog="mirrorgui",
        description="Mirror a disk image onto another while the source stays in use.",
        epilog=_COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="fill the New mirror dialog")
    parser.add_argument(
        "target", nargs="?", metavar="TARGET", help="and its target; starts nothing"
    )
    parser.add_argument(
        "--demo", action="store_true", help="temporary images and a guest that keeps writing"
    )
    parser.add_argument(
        "--demo-picture",
        metavar="PATH",
        type=Path,
        help="run the demonstration without a screen, print its progress, save a picture (PNG)",
    )
    parser.add_argument(
        "--qmp", metavar="ADDRESS", help="let QMP clients work with the window's mirrors"
    )
    parser.add_argument("--version", action="version", version=f"mirrorgui {mirrorgui.__version__}")
    return parser


def _parse(arguments: Sequence[str]) -> WindowOptions:
    parser = window_parser()
    given = parser.parse_args(arguments)
    images = tuple(image for image in (given.source, given.target) if image is not None)
    demo = given.demo or given.demo_picture is not None
    if demo and images:
        parser.error("the demonstration makes its own images: give none")
    return WindowOptions(images, demo, given.demo_picture, _address(given.qmp))


def _address(text: str | None) -> "Address | None":
    if text is None:
        return None
    from mirrorgui.qmp.address import parse_address

    return parse_address(text)


def _window(options: WindowOptions) -> int:
    if options.demo_picture is not None:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    if not has_screen(os.environ, sys.platform):
        return _say(
            2,
            "No graphical session found (neither DISPLAY nor WAYLAND_DISPLAY is set). "
            "'mirrorgui run' works without one.",
        )
    reason = qt_unfit(_qt_version(), sys.version_info[:2])
    if reason is not None:
        return _say(1, reason)
    # Before Qt is loaded: a start that hands over is over at once.
    claimed = _claim(options)
    if claimed is True:
        return 0
    try:
        from mirrorgui.ui import app
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        return _say(
            1,
            "The window needs Qt, which is not installed here: get it with "
            "\"pip install 'mirrorgui[gui]'\" ('mirrorgui run' works without it).",
        )
    except ImportError as error:
        if not _is_about_qt(error):
            raise
        return _say(
            1,
            f"The window cannot start: {error}. 'packaging/run' of the source tree installs what "
            "it needs; 'mirrorgui run' works without it.",
        )
    return app.main(options, claimed or None)


def _claim(options: WindowOptions) -> "Claim | bool":
    """Become the first window, or hand over to it: True. False when this one stands alone."""
    from mirrorgui.instance import Wish, claim, has_own_screen

    # A monitor or a picture is wanted of this very process.
    alone = options.qmp is not None or options.demo_picture is not None
    if alone or not has_own_screen(os.environ):
        return False
    return claim(Wish(options.sources, options.demo), os.environ)


def has_screen(environment: Mapping[str, str], platform: str) -> bool:
    """Say whether Qt can open a window, or was told to draw somewhere that needs no screen."""
    if platform in ("win32", "darwin"):
        return True
    chosen = re.split("[:;]", environment.get("QT_QPA_PLATFORM", ""))[0]
    if chosen not in _ON_A_SCREEN:
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def qt_unfit(qt: str | None, python: tuple[int, int]) -> str | None:
    """Say why this PySide6 must not be used with this Python, or None.

    PySide6 6.12 takes ``None`` and ``True`` for immortal, which they are from Python 3.12 on only:
    on an older one their reference counts sink until the interpreter aborts.

    Args:
        qt: the version of PySide6, such as ``6.11.3``; None when it is not known.
        python: major and minor version of the interpreter.
    """
    if qt is None or python >= (3, 12):
        return None
    numbers = [int(number) for number in re.findall(r"\d+", qt)[:2]]
    if numbers < [6, 12]:
        return None
    return (
        f"PySide6 {qt} needs Python 3.12 or newer, and this is {python[0]}.{python[1]}: "
        "install 'PySide6-Essentials<6.12', or use a newer Python."
    )


def _qt_version() -> str | None:
    # Asked of the installed files: importing it would come too late to refuse. Imported here
    # because it would cost every headless start 20 ms.
    import importlib.metadata

    for name in ("PySide6-Essentials", "PySide6"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _is_about_qt(error: ImportError) -> bool:
    named = f"{error.name or ''} {error}"
    return any(word in named for word in (*_EXTRA, ".so"))


if __name__ == "__main__":
    sys.exit(main())
