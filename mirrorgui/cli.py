"""The commands without a window: ``run``, ``serve``, ``info``, ``compare``. No Qt is imported here.

What a command needs is imported when it is given: the start counts in scripts.
"""

import argparse
import contextlib
import gc
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mirrorgui.errors import BlockIOError, InvalidInput, MirrorGUIError
from mirrorgui.units import format_size, parse_size

if TYPE_CHECKING:
    from mirrorgui.block.info import ImageInfo
    from mirrorgui.block.node import BlockNode
    from mirrorgui.mirror.options import ErrorPolicy
    from mirrorgui.qmp.address import Address
    from mirrorgui.session import ExportRequest, MirrorRequest

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
EXIT_SAME, EXIT_DIFFERENT, EXIT_ERROR = 0, 1, 2

_POLICIES = ("report", "ignore", "enospc", "stop")
_SIZES = ("--granularity", "--buf-size", "--speed")

_BEGINS_NEGATIVE = re.compile(r"-\d")


def main(argv: Sequence[str]) -> int:
    """Carry out one of the commands.

    Args:
        argv: the command's name and its arguments.

    Returns:
        The exit status of ``INTERFACE``: for ``run`` 0 completed, 1 failed, 2 refused, 130
        cancelled; for ``compare`` 0 identical, 1 different, 2 error.
    """
    _occupy_standard_streams()
    arguments = _parser().parse_args(_joined(argv))
    failed = EXIT_ERROR if arguments.name == "compare" else EXIT_FAILED
    try:
        status: int = arguments.command(arguments)
        sys.stdout.flush()
    except InvalidInput as error:
        return _say(EXIT_USAGE, str(error))
    except MirrorGUIError as error:
        return _say(failed, str(error))
    except BrokenPipeError:
        return _give_up_stdout(failed)
    except OSError as error:
        if error.filename is not None:
            raise
        return _give_up_stdout(_say(failed, f"Cannot write to stdout: {error.strerror}"))
    return status


def _say(status: int, sentence: str) -> int:
    print(f"mirrorgui: {sentence}", file=sys.stderr)
    return status


def _occupy_standard_streams() -> None:
    """Open what the caller has closed: an image must not get the number that lines are sent to."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path may be no text


def _give_up_stdout(status: int) -> int:
    """Throw away what stdout still holds; the interpreter would try to write it at its end."""
    from mirrorgui.faces import discard

    discard(sys.stdout)
    return status


def _joined(argv: Sequence[str]) -> list[str]:
    """Join sizes that begin with a minus to their options, so that they are refused by value."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in _SIZES and _BEGINS_NEGATIVE.match(argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mirrorgui", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, dest="name", metavar="COMMAND")
    _add_run(commands)
    _add_serve(commands)
    info = commands.add_parser(
        "info", help="format, virtual size, used bytes, backing chain", allow_abbrev=False
    )
    info.add_argument("image", metavar="IMAGE")
    info.add_argument("--format", metavar="F", help="the image's format (default: probed)")
    info.add_argument("--json", action="store_true", help="as qemu-img info --output=json")
    info.add_argument(
        "--backing-chain",
        action="store_true",
        help="with --json: a list of the image and all below it, as qemu-img prints it",
    )
    info.set_defaults(command=_info)
    same = commands.add_parser(
        "compare", help="0 identical, 1 different, 2 error", allow_abbrev=False
    )
    same.add_argument("a", metavar="A")
    same.add_argument("b", metavar="B")
    same.add_argument("--json", action="store_true", help="print one JSON object")
    same.add_argument("--strict", action="store_true", help="different sizes are a difference")
    same.set_defaults(command=_compare)
    return parser


_RUN_HELP = """\
SIGINT or SIGTERM: a mirror in sync ends softly (its target is a copy), another one is cancelled;
the second one drops everything. SIGUSR1 completes a mirror in sync: guests go on on TARGET, and
are served until the last one has left. SIGCONT resumes a mirror that an error has stopped.

exit status: 0 completed, or softly finished in sync; 1 failed (the reason is the last line on
stderr); 2 wrong usage or a refused image, nothing touched; 130 cancelled before in sync
"""


def _add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = commands.add_parser(
        "run",
        help="mirror SOURCE onto TARGET, with progress on stderr",
        description="Mirror SOURCE onto TARGET. A target that does not exist is created.",
        epilog=_RUN_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run.add_argument("source", metavar="SOURCE")
    run.add_argument("target", metavar="TARGET")
    run.add_argument("--source-format", metavar="F", help="default: probed")
    run.add_argument("--target-format", metavar="F", help="default: probed, or the source's")
    run.add_argument(
        "--mode",
        metavar="existing|absolute-paths",
        help="use TARGET as it is, or make it (default: make it when there is none)",
    )
    run.add_argument(
        "--target-options",
        default="",
        metavar="NAME=VALUE,...",
        help="how TARGET is made, as qemu-img create -o takes it: cluster_size, preallocation, ...",
    )
    run.add_argument("--sync", default="full", metavar="full|top|none", help="default: full")
    run.add_argument(
        "--granularity",
        default="0",
        metavar="SIZE",
        help="default: the target's cluster size, 4K to 64K",
    )
    run.add_argument("--buf-size", default="0", metavar="SIZE", help="default: 16M")
    run.add_argument("--speed", default="0", metavar="SIZE", help="bytes a second; 0: unlimited")
    run.add_argument(
        "--copy-mode",
        default="background",
        metavar="background|write-blocking",
        help="write-blocking: a guest's write reaches TARGET, too, before it is answered"
        " (default: background)",
    )
    for end in ("source", "target"):
        run.add_argument(
            f"--on-{end}-error",
            default="report",
            metavar="|".join(_POLICIES),
            help="default: report",
        )
    run.add_argument("--overwrite", action="store_true", help="the target's content may be lost")
    run.add_argument(
        "--export", metavar="NBD-URI", help="serve SOURCE to guests while it is mirrored"
    )
    run.add_argument("--finish", metavar="complete|cancel|wait", help="once in sync")
    run.add_argument("--qmp", metavar="ADDRESS", help="let QMP clients watch and control it")
    run.add_argument("--json", action="store_true", help="JSON lines on stdout")
    run.set_defaults(command=_run)


_SERVE_HELP = """\
ADDRESS: unix:PATH or a path for a socket that only this user can open, or tcp:localhost:PORT for
one that every user of this machine can. The commands, texts and events are those of
qemu-storage-daemon. SIGINT and SIGTERM cancel all jobs and end it, as the command quit does.
"""


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    serve = commands.add_parser(
        "serve",
        help="the engine alone, controlled over QMP",
        description="Serve QMP until quit or a signal.",
        epilog=_SERVE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    serve.add_argument("--qmp", metavar="ADDRESS", required=True, help="where to listen")
    serve.set_defaults(command=_serve)


def _size(field: str, text: str, check: Callable[[int], None]) -> int:
    """Read a size, and refuse it under the text that was given."""
    try:
        size = parse_size(text)
        check(size)
    except ValueError as error:
        raise InvalidInput(field, text, str(error)) from None
    except InvalidInput as error:
        raise InvalidInput(field, text, error.reason) from None
    return size


def _policy(field: str, value: str) -> "ErrorPolicy":
    from mirrorgui.mirror.options import ErrorPolicy

    if value not in _POLICIES:
        raise InvalidInput(field, value, f"expected one of: {', '.join(_POLICIES)}")
    return ErrorPolicy(value)


def _request(given: argparse.Namespace) -> "MirrorRequest":
    """Turn the arguments of ``run`` into a request.

    Raises:
        InvalidInput: naming the option, its value and what is wrong.
    """
    from mirrorgui.block.creation import TargetMode, parse_creation
    from mirrorgui.mirror import options as rules
    from mirrorgui.session import MirrorRequest, WhenReady

    options = rules.MirrorOptions(
        sync=rules.choice(rules.SyncMode, "sync", given.sync),
        granularity=_size("granularity", given.granularity, rules.check_granularity),
        buf_size=_size("buf-size", given.buf_size, rules.check_buf_size),
        speed=_size("speed", given.speed, rules.check_speed),
        copy_mode=rules.choice(rules.CopyMode, "copy-mode", given.copy_mode),
        on_source_error=_policy("on-source-error", given.on_source_error),
        on_target_error=_policy("on-target-error", given.on_target_error),
    )
    default = WhenReady.WAIT if given.export else WhenReady.COMPLETE
    return MirrorRequest(
        source=given.source,
        target=given.target,
        source_format=given.source_format,
        target_format=given.target_format,
        target_mode=rules.choice(TargetMode, "mode", given.mode) if given.mode else None,
        creation=parse_creation(given.target_options),
        overwrite=given.overwrite,
        export=_export(given.export),
        when_ready=rules.choice(WhenReady, "finish", given.finish or default.value),
        options=options,
    )


def _export(uri: str | None) -> "ExportRequest | None":
    from mirrorgui.session import ExportRequest

    # An address that others can reach was typed by whoever wants it; the server warns of it.
    return ExportRequest(uri, allow_remote=True) if uri else None


def _run(given: argparse.Namespace) -> int:
    # Until the job's own handlers are there nothing has been touched, and both just end it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # numpy's linear algebra starts a thread for each core with its import; nothing here needs it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is imported stays: looking through it for garbage costs a tenth of the start.
    gc.disable()
    from mirrorgui.headless import run_mirror
    from mirrorgui.session import OverwriteRefused

    gc.freeze()
    gc.enable()

    try:
        return run_mirror(_request(given), as_json=given.json, qmp=_qmp(given.qmp))
    except OverwriteRefused as refusal:
        return _say(EXIT_USAGE, f"{refusal} Use --overwrite to allow that.")


def _qmp(address: str | None) -> "Address | None":
    if address is None:
        return None
    from mirrorgui.qmp.address import parse_address

    return parse_address(address)


def _serve(given: argparse.Namespace) -> int:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in _run
    from mirrorgui.qmp.address import parse_address
    from mirrorgui.qmp.serve import serve

    return serve(parse_address(given.qmp))


def _info(given: argparse.Namespace) -> int:
    import json

    from mirrorgui.block.info import image_info

    info = image_info(given.image, format=given.format, field="image")
    if given.json and given.backing_chain:
        print(json.dumps([image.as_qemu() for image in info.chain], indent=4))
    elif given.json:
        print(json.dumps(_info_json(info), indent=4))
    else:
        print("\n\n".join("\n".join(_info_lines(image)) for image in info.chain))
    return EXIT_DONE


def _info_json(info: "ImageInfo") -> dict[str, object]:
    """Return the image's fields, and those of what lies below it under ``backing-image``."""
    fields = info.as_qemu()
    if info.backing is not None:
        fields["backing-image"] = _info_json(info.backing)
    return fields


def _info_lines(info: "ImageInfo") -> list[str]:
    """Return the lines of ``qemu-img info``."""
    lines = [f"image: {info.filename}", f"file format: {info.format}"]
    if info.virtual_size is not None:
        exact = f"{info.virtual_size} bytes"
        lines.append(f"virtual size: {format_size(info.virtual_size)} ({exact})")
    if info.actual_size is not None:
        lines.append(f"disk size: {format_size(info.actual_size)}")
    if info.cluster_size is not None:
        lines.append(f"cluster_size: {info.cluster_size}")
    if info.encrypted:
        lines.append("encrypted: yes")
    if info.dirty_flag:
        lines.append("cleanly shut down: no")
    if info.backing_filename:
        lines.append(f"backing file: {info.backing_filename}{_actual_path(info)}")
    if info.backing_format:
        lines.append(f"backing file format: {info.backing_format}")
    if info.backing_error:
        lines.append(f"backing file cannot be read: {info.backing_error}")
    if info.snapshots:
        lines.append("Snapshot list:")
        lines += [f"    {snapshot['id']}: {snapshot['name']}" for snapshot in info.snapshots]
    return lines + _specific_lines(info)


def _actual_path(info: "ImageInfo") -> str:
    if info.full_backing_filename in ("", info.backing_filename):
        return ""
    return f" (actual path: {info.full_backing_filename})"


def _specific_lines(info: "ImageInfo") -> list[str]:
    data = info.specific.get("data")
    if not isinstance(data, dict):
        return []
    return ["Format specific information:", *_nested_lines(data, "    ")]


def _nested_lines(value: Mapping[str, object] | Sequence[object], indent: str) -> Iterator[str]:
    """Yield a line for each value, and those of objects and lists further inside below it."""
    if isinstance(value, Mapping):
        parts = [(str(name).replace("-", " "), part) for name, part in value.items()]
    else:
        parts = [(f"[{number}]", part) for number, part in enumerate(value)]
    for name, part in parts:
        if isinstance(part, Mapping | list):
            yield f"{indent}{name}:"
            yield from _nested_lines(part, indent + "    ")
        else:
            text = str(part).lower() if isinstance(part, bool) else part
            yield f"{indent}{name}: {text}"


def _compare(given: argparse.Namespace) -> int:
    import json

    from mirrorgui.block.compare import compare

    try:
        with contextlib.ExitStack() as opened:
            a, b = (_opened(getattr(given, field), field, opened) for field in ("a", "b"))
            offset = compare(a, b, strict=given.strict)
    except (InvalidInput, BlockIOError) as error:
        if given.json:
            print(json.dumps({"identical": None, "error": str(error)}))
        return _say(EXIT_ERROR, str(error))
    if given.json:
        print(json.dumps({"identical": offset is None, "offset": offset}))
    elif offset is None:
        print("Images are identical.")
    else:
        print(f"Content mismatch at offset {offset}!")
    return EXIT_SAME if offset is None else EXIT_DIFFERENT


def _opened(image: str, field: str, opened: contextlib.ExitStack) -> "BlockNode":
    from mirrorgui.block.open import How, open_image

    node = open_image(image, how=How(field, read_only=True, force_share=True))
    opened.callback(node.close)
    return node
