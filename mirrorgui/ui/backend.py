"""What the window asks of the engine, in one place: tests put another engine behind it."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mirrorgui.block.node import BlockNode
from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.options import CopyMode, ErrorPolicy
from mirrorgui.mirror.snapshot import JobSnapshot

if TYPE_CHECKING:
    from mirrorgui.block.devices import BlockDevice
    from mirrorgui.block.info import ImageInfo
    from mirrorgui.block.safety import Finding
    from mirrorgui.nbd.statistics import ConnectionStatistics
    from mirrorgui.session import ExportRequest, MirrorRequest


class Job(Protocol):
    """The verbs and looks of a mirror job that the window uses; see ``mirror.job.MirrorJob``."""

    @property
    def events(self) -> EventLog: ...
    def snapshot(self) -> JobSnapshot: ...
    def copy_map_into(self, words: MapWords) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def set_speed(self, speed: int) -> None: ...
    def complete(self) -> None: ...
    def cancel(self, *, force: bool = False) -> None: ...
    def change(self, copy_mode: CopyMode) -> None: ...
    def set_policy(
        self,
        *,
        on_source_error: ErrorPolicy | None = None,
        on_target_error: ErrorPolicy | None = None,
    ) -> None: ...


class Session(Protocol):
    """An open mirror; see ``session.MirrorSession``."""

    @property
    def request(self) -> "MirrorRequest": ...
    @property
    def drive(self) -> BlockNode: ...
    @property
    def job(self) -> Job: ...
    @property
    def target_created(self) -> bool: ...
    @property
    def target_loss(self) -> str: ...
    @property
    def export_uri(self) -> str: ...
    def clients(self) -> "tuple[ConnectionStatistics, ...]": ...
    async def look_after_target(self) -> str: ...
    def start(self) -> None: ...
    async def wait(self) -> JobSnapshot: ...
    async def release_unused(self) -> None: ...
    async def close(self) -> None: ...
    def delete_incomplete_target(self) -> bool: ...


class Backend(Protocol):
    """Opens sessions and looks at images. All but ``open`` block: call them in an executor."""

    async def open(self, request: "MirrorRequest") -> Session: ...
    def check(self, request: "MirrorRequest") -> "list[Finding]": ...
    def check_export(self, export: "ExportRequest") -> "list[Finding]": ...
    def info(self, specification: str, image_format: str | None) -> "ImageInfo": ...
    def devices(self) -> "list[BlockDevice]": ...


class Engine:
    """The engine inside this process. Imported when first used: the window opens sooner."""

    async def open(self, request: "MirrorRequest") -> Session:
        from mirrorgui.session import MirrorSession

        if request.export is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, _make_room, request.export)
        return await MirrorSession.open(request)

    def check(self, request: "MirrorRequest") -> "list[Finding]":
        from mirrorgui.session import check_request

        return check_request(request)

    def check_export(self, export: "ExportRequest") -> "list[Finding]":
        from mirrorgui.export_check import check_export

        return check_export(export)

    def info(self, specification: str, image_format: str | None) -> "ImageInfo":
        from mirrorgui.block.info import image_info

        return image_info(specification, format=image_format)

    def devices(self) -> "list[BlockDevice]":
        from mirrorgui.block.devices import list_devices

        return list_devices()


def _make_room(export: "ExportRequest") -> None:
    """Make the folder that an export's socket lies in, when it is our own.

    Raises:
        InvalidInput: it cannot be made, or others can enter what is in its place.
    """
    from mirrorgui.nbd.uri import parse_uri
    from mirrorgui.runtime import make_runtime_folder, runtime_folder

    if Path(parse_uri(export.uri).socket_path).parent == runtime_folder():
        make_runtime_folder()
