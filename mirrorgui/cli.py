"""The commands without a window: ``run``, ``info`` and ``compare``. No Qt is imported here."""

import argparse
import json
import sys
from collections.abc import Sequence

from mirrorgui.block.compare import compare
from mirrorgui.block.info import ImageInfo, image_info
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_image
from mirrorgui.errors import BlockIOError, InvalidInput, MirrorGUIError
from mirrorgui.headless import run_mirror
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, MirrorOptions, SyncMode, choice
from mirrorgui.session import ExportRequest, MirrorRequest, WhenReady
from mirrorgui.units import format_size, parse_size

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
EXIT_SAME, EXIT_DIFFERENT, EXIT_ERROR = 0, 1, 2


def main(argv: Sequence[str]) -> int:
    """Carry out one of the commands.

    Args:
        argv: the command's name and its arguments.

    Returns:
        The exit status of ``INTERFACE``: for ``run`` 0 completed, 1 failed, 2 refused, 130
        cancelled; for ``compare`` 0 identical, 1 different, 2 error.
    """
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.command(arguments)
    except InvalidInput as error:
        return _refused(str(error))
    except MirrorGUIError as error:
        print(f"mirrorgui: {error}", file=sys.stderr)
        return EXIT_ERROR if arguments.name == "compare" else EXIT_FAILED
    return status


def _refused(sentence: str) -> int:
    print(f"mirrorgui: {sentence}", file=sys.stderr)
    return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mirrorgui", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, dest="name", metavar="COMMAND")
    _add_run(commands)
    info = commands.add_parser("info", help="format, virtual size, used bytes, backing chain")
    info.add_argument("image", metavar="IMAGE")
    info.add_argument("--format", help="the image's format (default: probed)")
    info.add_argument("--json", action="store_true", help="as qemu-img info --output=json")
    info.set_defaults(command=_info)
    same = commands.add_parser("compare", help="0 identical, 1 different, 2 error")
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
    policies = [policy.value for policy in ErrorPolicy if policy is not ErrorPolicy.AUTO]
    run.add_argument("source", metavar="SOURCE")
    run.add_argument("target", metavar="TARGET")
    run.add_argument("--source-format", metavar="F", help="default: probed")
    run.add_argument("--target-format", metavar="F", help="default: probed, or the source's")
    run.add_argument("--sync", default="full", metavar="full|top|none", help="default: full")
    run.add_argument("--granularity", default="0", metavar="SIZE", help="default: 64K")
    run.add_argument("--buf-size", default="0", metavar="SIZE", help="default: 16M")
    run.add_argument("--speed", default="0", metavar="SIZE", help="bytes a second; 0: unlimited")
    run.add_argument("--copy-mode", default="background", metavar="background|write-blocking")
    for end in ("source", "target"):
        run.add_argument(
            f"--on-{end}-error",
            default="report",
            metavar="|".join(policies),
            help="default: report",
        )
    run.add_argument("--overwrite", action="store_true", help="the target's content may be lost")
    run.add_argument(
        "--export", metavar="NBD-URI", help="serve SOURCE to guests while it is mirrored"
    )
    run.add_argument("--finish", metavar="complete|cancel|wait", help="once in sync")
    run.add_argument("--json", action="store_true", help="JSON lines on stdout")
    run.set_defaults(command=_run)


def _size(field: str, text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise InvalidInput(field, text, str(error)) from None


def _request(given: argparse.Namespace) -> MirrorRequest:
    """Turn the arguments of ``run`` into a request.

    Raises:
        InvalidInput: naming the option, its value and what is wrong.
    """
    options = MirrorOptions(
        sync=choice(SyncMode, "sync", given.sync),
        granularity=_size("granularity", given.granularity),
        buf_size=_size("buf-size", given.buf_size),
        speed=_size("speed", given.speed),
        copy_mode=choice(CopyMode, "copy-mode", given.copy_mode),
        on_source_error=choice(ErrorPolicy, "on-source-error", given.on_source_error),
        on_target_error=choice(ErrorPolicy, "on-target-error", given.on_target_error),
    )
    default = WhenReady.WAIT if given.export else WhenReady.COMPLETE
    return MirrorRequest(
        source=given.source,
        target=given.target,
        source_format=given.source_format,
        target_format=given.target_format,
        overwrite=given.overwrite,
        export=_export(given.export),
        when_ready=choice(WhenReady, "finish", given.finish or default.value),
        options=options,
    )


def _export(uri: str | None) -> ExportRequest | None:
    # An address that others can reach was typed by whoever wants it; the server warns of it.
    return ExportRequest(uri, allow_remote=True) if uri else None


def _run(given: argparse.Namespace) -> int:
    return run_mirror(_request(given), as_json=given.json)


def _info(given: argparse.Namespace) -> int:
    info = image_info(given.image, format=given.format, field="image")
    if given.json:
        print(json.dumps(_info_json(info), indent=4))
    else:
        for number, image in enumerate(info.chain):
            if number:
                print()
            print("\n".join(_info_lines(image)))
    return EXIT_DONE


def _info_json(info: ImageInfo) -> dict[str, object]:
    """Return the image's fields, and those of what lies below it under ``backing-image``."""
    fields = info.as_qemu()
    if info.backing is not None:
        fields["backing-image"] = _info_json(info.backing)
    return fields


def _info_lines(info: ImageInfo) -> list[str]:
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
    if info.backing_filename:
        lines.append(f"backing file: {info.backing_filename}")
    if info.backing_error:
        lines.append(f"backing file cannot be read: {info.backing_error}")
    return lines


def _compare(given: argparse.Namespace) -> int:
    nodes: list[BlockNode] = []
    try:
        for field in ("a", "b"):
            how = How(field, read_only=True, force_share=True)
            nodes.append(open_image(getattr(given, field), how=how))
        offset = compare(nodes[0], nodes[1], strict=given.strict)
    except (InvalidInput, BlockIOError) as error:
        if given.json:
            print(json.dumps({"identical": None, "error": str(error)}))
        print(f"mirrorgui: {error}", file=sys.stderr)
        return EXIT_ERROR
    finally:
        for node in nodes:
            node.close()
    if given.json:
        print(json.dumps({"identical": offset is None, "offset": offset}))
    elif offset is None:
        print("Images are identical.")
    else:
        print(f"Content mismatch at offset {offset}!")
    return EXIT_SAME if offset is None else EXIT_DIFFERENT
