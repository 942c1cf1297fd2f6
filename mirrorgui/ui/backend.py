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
    from mirrorgui.house import House
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
    """Opens sessions and looks at images.

    ``open`` and ``job_ids`` belong to the loop; the others block: call them in an executor.
    """

    async def open(self, request: "MirrorRequest") -> Session: ...
    def job_ids(self) -> frozenset[str]: ...
    def check(self, request: "MirrorRequest") -> "list[Finding]": ...
    def check_export(self, export: "ExportRequest") -> "list[Finding]": ...
    def info(self, specification: str, image_format: str | None) -> "ImageInfo": ...
    def devices(self) -> "list[BlockDevice]": ...


class Engine:
    """The engine inside this process. Imported when first used: the window opens sooner."""

    def __init__(self) -> None:
        self._house: House | None = None

    @property
    def house(self) -> "House":
        """Where its mirrors run, together with those that others begin."""
        if self._house is None:
            from mirrorgui.house import House

            self._house = House()
        return self._house

    async def open(self, request: "MirrorRequest") -> Session:
        if request.export is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, _make_room, request.export)
        return await self.house.open(request)

    def job_ids(self) -> frozenset[str]:
        return frozenset(job.job_id for job in self._house.jobs) if self._house else frozenset()

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
