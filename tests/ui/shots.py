"""Pictures of the window's states, to be looked at: ``python -m tests.ui.shots DIR``.

Each state in light and dark. The size of everything follows ``QT_SCALE_FACTOR``, as for a person.
"""

import argparse
import asyncio
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import qasync
from PySide6.QtCore import QPoint, QSettings
from PySide6.QtWidgets import QApplication

from mirrorgui.block.info import ImageInfo
from mirrorgui.block.safety import Finding, Severity
from mirrorgui.errors import InvalidInput
from mirrorgui.mirror.options import MirrorOptions, SyncMode
from mirrorgui.mirror.snapshot import LATENCY_BUCKETS, GuestStatistics, Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.nbd.statistics import ConnectionStatistics
from mirrorgui.session import ExportRequest, MirrorRequest
from mirrorgui.ui.app import make_application, make_window
from mirrorgui.ui.availability import Act
from mirrorgui.ui.dialogs.erase import EraseDialog
from mirrorgui.ui.dialogs.new_mirror import NewMirrorDialog
from mirrorgui.ui.exported import Exported
from mirrorgui.ui.form import TargetKind
from mirrorgui.ui.main_window import MainWindow
from mirrorgui.ui.models.log import LogQueue
from mirrorgui.ui.node_exports import NodeExported
from mirrorgui.ui.settings import Settings
from mirrorgui.ui.theme import ThemeChoice, theme_of
from mirrorgui.units import GiB, KiB, MiB
from tests.ui import fakes
from tests.ui.fakes import (
    FakeBackend,
    client,
    device,
    error,
    flying,
    full,
    running_words,
    snapshot,
)

SECOND = fakes.SECOND
SOURCE, TARGET = "/vm/images/debian-server.img", "/mnt/backup/debian-server-copy.img"
DISK = 64 * GiB


class Shots:
    """Makes the pictures of one theme."""

    def __init__(self, app: QApplication, folder: Path, theme: ThemeChoice) -> None:
        self.app = app
        self.folder = folder
        self.theme = theme
        self.backend = FakeBackend()
        info = ImageInfo(SOURCE, "raw", DISK, actual_size=41 * GiB + 300 * MiB)
        self.backend.size = DISK
        self.backend.infos = {SOURCE: info, TARGET: replace(info, filename=TARGET)}
        self.window: MainWindow | None = None
        self.rows = 0

    def make(self, **remembered: object) -> MainWindow:
        store = QSettings(tempfile.mktemp(suffix=".ini"), QSettings.Format.IniFormat)
        for key, value in remembered.items():
            store.setValue(key, value)
        store.setValue("theme", self.theme.value)
        self.log = LogQueue()
        self.window = make_window(self.app, self.backend, Settings(store), self.log, lambda: None)
        self.window.resize(1180, 760)
        self.window.show()
        return self.window

    async def settle(self, turns: int = 4) -> None:
        for _ in range(turns):
            await asyncio.sleep(0.03)

    async def save(self, name: str, widget: object = None) -> None:
        await self.settle()
        path = self.folder / f"{name}-{self.theme.value}.png"
        (widget or self.window).grab().save(str(path))
        print(path)

    async def end(self) -> None:
        await self.window.shutdown()
        self.window.close()
        self.window.deleteLater()
        await self.settle()

    async def mirror(self, export: ExportRequest | None = None, **options: object) -> None:
        request = MirrorRequest(SOURCE, TARGET, export=export, options=MirrorOptions(**options))
        await self.window.controller.start(request)

    async def film(self, now: Callable[[int], object], seconds: int = 240) -> None:
        """Let the job do what ``now`` says for each second, so that charts have a past."""
        job = self.backend.job
        controller = self.window.controller
        self.began = time.monotonic_ns()
        mirror = controller._mirrors[controller.selected]
        for second in range(seconds + 1):
            at = now(second)
            at = replace(
                at,
                operations=tuple(
                    replace(each, started_ns=each.started_ns - 2 * SECOND + self.began)
                    for each in at.operations
                ),
                size=DISK,
                chunks=DISK // (64 * KiB),
                granularity=64 * KiB,
                job_id="mirror0",
                time_ns=self.began + second * SECOND,
                started_ns=self.began,
                generation=0 if second < seconds else 1,
            )
            job.snapshot = lambda at=at: at
            controller._look(mirror)
        job.now = at
        await self.settle()

    # The states.

    async def empty(self) -> None:
        self.make(recent=[SOURCE, "/vm/images/win11.img", "/srv/disks/database.img"])
        await self.save("empty")
        await self.end()

    async def dialogs(self) -> None:
        self.make()
        await self._dialog("dialog", lambda each: each.set_target(TARGET))
        self.backend.findings = [
            Finding(
                Severity.REFUSE,
                "target-too-small",
                "target",
                "Target is 4.0 KiB too small (64.0 GiB needed, 63.99 GiB there).",
            ),
            Finding(
                Severity.WARN,
                "low-space",
                "target",
                "May run out of space: up to 64.0 GiB needed, 12.0 GiB free. With Stop only when "
                "the target is full the mirror pauses then.",
            ),
            Finding(Severity.HINT, "same-disk", "target", "Same disk: expect half the speed."),
        ]
        await self._dialog("dialog-refused", lambda each: each.set_target(TARGET))
        text = (
            "Overwrite debian-server-copy.img (14.2 GiB, changed yesterday 18:12). Its content "
            "will be lost."
        )
        self.backend.findings = [Finding(Severity.CONFIRM, "overwrite", "target", text)]

        def overwrite(dialog) -> None:
            dialog.target.set_kind(TargetKind.EXISTING)
            dialog.target.path.setText("/etc/passwd")

        await self._dialog("dialog-overwrite", overwrite, tick=True)
        self.backend.findings = []
        await self._dialog_over_a_chain()
        await self._dialog("dialog-export", _offer)
        text = (
            "Anyone who can reach 0.0.0.0:10809 can read and write this disk. There is no password."
        )
        self.backend.export_findings = [Finding(Severity.CONFIRM, "export-remote", "export", text)]
        await self._dialog("dialog-export-tcp", _offer_to_all)
        self.backend.export_findings = []
        erase = EraseDialog(device(), self.window)
        erase.open()
        await self.save("dialog-erase", erase)
        erase.reject()
        await self.end()

    async def _dialog_over_a_chain(self) -> None:
        before = self.backend.infos
        base = ImageInfo("/vm/images/debian-12-base.qcow2", "qcow2", 32 * GiB)
        middle = ImageInfo("/vm/images/updates.qcow2", "qcow2", DISK, backing=base)
        top = ImageInfo(
            SOURCE,
            "qcow2",
            DISK,
            actual_size=9 * GiB,
            cluster_size=64 * KiB,
            backing_filename="updates.qcow2",
            full_backing_filename=middle.filename,
            backing=middle,
            snapshots=({"id": "1", "name": "before"},),
        )
        broken = replace(top, backing=None, backing_error="No such file or directory.")
        self.backend.infos = {**before, SOURCE: top}

        def top_layer(dialog: NewMirrorDialog) -> None:
            dialog.set_target(TARGET.replace(".img", ".qcow2"))
            dialog.options.sync.set_sync(SyncMode.TOP)
            dialog.target.creation.cluster_size.set_size_bytes(128 * KiB)
            dialog.target.creation.lazy_refcounts.setChecked(True)

        await self._dialog("dialog-top", top_layer)
        self.backend.findings = InvalidInput(
            "cluster_size", 512, "too large for clusters of 512 bytes, try larger ones"
        )
        await self._dialog("dialog-wrong-option", lambda each: each.set_target(TARGET))
        self.backend.findings = []
        self.backend.infos = {**before, SOURCE: broken}
        await self._dialog("dialog-broken-chain", lambda each: each.set_target(TARGET))
        self.backend.infos = before

    async def _dialog(self, name: str, fill: Callable[..., None], *, tick: bool = False) -> None:
        self.window.flows.new_mirror(SOURCE)
        dialog = self.window.flows.new_dialog
        fill(dialog)
        dialog.refresh()
        while not dialog.is_up_to_date:
            await self.settle()
        if tick:
            dialog.target.overwrite.set_checked(True)
        await self.save(name, dialog)
        dialog.reject()
        await self.settle()

    async def running(self) -> None:
        self.make()
        await self.mirror()
        job = self.backend.job
        job.show_map(running_words(DISK // (64 * KiB), 0.62))
        await self.film(lambda second: _running(second, 390))
        await self.save("running")
        self.window.act.charts.trigger()
        await self.save("running-charts")
        self.window.act.map.trigger()
        self.window.resize(780, 560)
        await self.save("running-small")
        self.window.resize(1180, 760)
        self.window.act.do[Act.CANCEL].trigger()
        await self.settle()
        from mirrorgui.ui.dialogs.questions import QuestionDialog

        question = self.window.findChild(QuestionDialog)
        await self.save("question-cancel", question)
        question.reject()
        await self.end()

    async def stopped(self) -> None:
        self.make()
        await self.mirror()
        self.backend.job.show_map(_failed(running_words(DISK // (64 * KiB), 0.46)))

        def now(second: int):
            at = _running(second, 420)
            if second < 230:
                return at
            bad = tuple(
                error(
                    int(DISK * 0.455) + n * 128 * KiB,
                    64 * KiB,
                    "read",
                    tries=1 + n % 3,
                    action="ignore" if n < 36 else "stop",
                )
                for n in range(37)
            )
            other = error(12 * GiB, MiB, solved=True, tries=2, action="stop")
            return replace(
                at,
                status=JobStatus.PAUSED,
                paused=True,
                paused_by_error=True,
                io_status="failed",
                errors=(other, *bad),
                error_count=52,
                operations=(),
            )

        await self.film(now)
        await self.save("stopped")
        self.window.resize(self.window.minimumSize())
        await self.save("stopped-small")
        self.window.resize(1180, 760)
        self.window.act.log.trigger()
        self.window.log_feed.take()
        await self.save("stopped-log")
        self.window.act.errors.trigger()
        await self.save("stopped-errors")
        at = replace(self.backend.job.now, io_status="nospace", errors=full().errors)
        self.backend.job.snapshot = lambda: at
        self.window.controller.look_now()
        self.window.act.map.trigger()
        await self.save("full")
        await self.end()

    async def in_sync(self) -> None:
        self.make()
        await self.mirror()
        self.backend.job.show_map(_late(running_words(DISK // (64 * KiB), 1.01)))

        def now(second: int):
            if second < 200:
                return _running(second, 200)
            return replace(
                _running(200, 200),
                status=JobStatus.READY,
                phase=snapshot(JobStatus.READY).phase,
                ready=True,
                guest=_guest(second),
                offset=DISK + second * 400_000,
                length=DISK + second * 400_000 + 3 * MiB,
                dirty_bytes=2 * MiB,
                in_flight_bytes=MiB,
                dirtied_bytes=second * 400_000,
                operations=flying((second + 2) * SECOND, 2, int(DISK * 0.21)),
            )

        await self.film(now)
        await self.save("in-sync")
        self.window.act.do[Act.COMPLETE].trigger()
        await self.settle()
        from mirrorgui.ui.dialogs.questions import QuestionDialog

        question = self.window.findChild(QuestionDialog)
        await self.save("question-complete", question)
        question.reject()
        await self.end()

    async def clients(self) -> None:
        self.make()
        uri = "nbd+unix:///debian-server?socket=/run/user/1000/mirrorgui/1.sock"
        await self.mirror(ExportRequest(uri))
        self.backend.job.show_map(running_words(DISK // (64 * KiB), 0.62))
        await self.film(lambda second: _running(second, 390))
        self.window.act.clients.trigger()
        await self.save("clients-none")
        self.backend.sessions[-1].connected = _clients()
        at = replace(self.backend.job.now, time_ns=self.backend.job.now.time_ns + 2 * SECOND)
        self.backend.job.snapshot = lambda: at
        self.window.controller.look_now()
        await self.save("clients")
        self.window.resize(780, 560)
        await self.save("clients-small")
        self.window.resize(1180, 760)
        self.window.view.export.menu.popup(self.window.view.export.commands.mapToGlobal(QPoint()))
        await self.save("clients-menu", self.window.view.export.menu)
        self.window.view.export.menu.close()
        self.window.act.map.trigger()
        await self.save("running-served")
        del self.backend.job.snapshot
        self.backend.job.show(
            replace(at, status=JobStatus.NULL, outcome=Outcome.SWITCHED, operations=())
        )
        await self.save("done-served")
        self.window.close()
        await self.settle()
        from mirrorgui.ui.dialogs.questions import QuestionDialog

        question = self.window.findChild(QuestionDialog)
        await self.save("question-close-served", question)
        question.reject()
        await self.end()

    async def exports(self) -> None:
        self.make()
        source = _Exports()
        self.window.controller.exports.begin(source)
        await self.save("exports-only")
        await self.mirror()
        source.drive = self.backend.sessions[-1].drive
        self.backend.job.show_map(running_words(DISK // (64 * KiB), 0.62))
        await self.film(lambda second: _running(second, 390))
        self.window.controller.exports.look()
        self.window.controller.look_now()
        await self.save("exports-running")
        self.window.resize(780, 560)
        await self.save("exports-small")
        self.window.resize(1180, 760)
        source.count = 5
        self.window.controller.exports.look()
        self.window.act.clients.trigger()
        await self.save("exports-many")
        self.window.exports.rows["debian"].stop.click()
        await self.settle()
        from mirrorgui.ui.dialogs.questions import QuestionDialog

        question = self.window.findChild(QuestionDialog)
        await self.save("question-stop-export", question)
        question.reject()
        self.window.controller.exports.end()
        await self.end()

    async def over(self) -> None:
        for name, outcome, reason in (
            ("done", Outcome.SWITCHED, None),
            ("failed", Outcome.FAILED, "Input/output error"),
        ):
            self.make()
            await self.mirror()
            front = 1.01 if reason is None else 0.46
            words = running_words(DISK // (64 * KiB), front)
            words.dirty[:] = 0 if reason is None else words.dirty
            self.backend.job.show_map(words if reason is None else _failed(words))
            whole = 200 if reason is None else 400

            def now(second: int, outcome=outcome, reason=reason, whole=whole):
                at = _running(min(second, 200), whole)
                if second < 201:
                    return at
                return replace(
                    at,
                    status=JobStatus.NULL,
                    outcome=outcome,
                    error=reason,
                    ended_wall_ns=fakes.NOON_NS,
                    operations=(),
                    errors=(error(int(DISK * 0.455), action="report"),) if reason else (),
                    error_count=1 if reason else 0,
                    ready=reason is None,
                )

            await self.film(now, 205)
            self.backend.job.show(self.backend.job.now)
            await self.save(name)
            await self.end()


def _offer(dialog: NewMirrorDialog) -> None:
    dialog.set_target(TARGET)
    export = dialog.options.export
    export.enabled.set_checked(True)
    export.socket.setText("/run/user/1000/mirrorgui/1.sock")


def _offer_to_all(dialog: NewMirrorDialog) -> None:
    _offer(dialog)
    dialog.options.export.tcp.setChecked(True)
    dialog.options.export.address.setText("0.0.0.0:10809")


def _clients() -> list[ConnectionStatistics]:
    now = time.time()
    return [
        client(1, since=now - 700, last_request_at=now - 0.2, reads=48211, bytes_read=3 * GiB),
        client(
            2,
            peer="nbdcopy (pid 2210)",
            since=now - 95,
            last_request="READ 262144 at 36909875200",
            last_request_at=now - 3,
            writes=0,
            bytes_written=0,
        ),
        client(
            3,
            peer="nbdinfo (pid 2291)",
            export=None,
            since=now - 1,
            reads=0,
            bytes_read=0,
            writes=0,
            bytes_written=0,
            last_request="",
            last_request_at=0.0,
        ),
    ]


def _guest(second: int) -> GuestStatistics:
    latency = [0] * LATENCY_BUCKETS
    for bucket, share in ((12, 5), (14, 20), (16, 9), (22, 1)):
        latency[bucket] = share * (second + 1)
    wave = int(MiB * (3.1 * second + 16 * (1 - math.cos(second / 8))))
    return GuestStatistics(
        writes=35 * second, bytes_written=wave, reads=80 * second, latency=tuple(latency)
    )


def _running(second: int, whole: int):
    """The job at a second of a copy that takes ``whole`` of them."""
    data = int(DISK * 0.62)
    done = min(int(data / whole * (second + 2.2 * (1 - math.cos(second / 9)))), data)
    again = int(second * 1.9 * MiB)
    latency = [0] * LATENCY_BUCKETS
    latency[24], latency[28] = 30 * second, 4 * second
    return snapshot(
        offset=done,
        length=data + again,
        dirty_bytes=data + again - done - 6 * MiB if done < data else 0,
        in_flight_bytes=6 * MiB if done < data else 0,
        dirtied_bytes=again,
        copied_bytes=done,
        copy_latency=tuple(latency),
        operations=flying((second + 2) * SECOND, 6, int(DISK * 0.62 * second / whole)),
        guest=_guest(second),
        started_ns=2 * SECOND,
        speed=0,
    )


def _failed(words):
    first = int(words.chunks * 0.455) // 64
    words.failed[first : first + 2] = 0x00FF00FF00FF00FF
    return words


def _late(words):
    words.dirty[:] = 0
    words.dirty[int(len(words.dirty) * 0.21) : int(len(words.dirty) * 0.21) + 3] = 0x0F0F
    return words


class _Exports:
    """Exports as commands would have added them."""

    def __init__(self) -> None:
        self.count = 2
        self.drive: object = None

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        return lambda: None

    async def remove(self, export_id: str) -> None:
        pass

    def look(self) -> tuple[NodeExported, ...]:
        socket = "socket=/run/user/1000/qmp/nbd.sock"
        alike = {"by_command": True, "alone": False}
        clients = tuple(_clients())
        first = Exported(f"nbd+unix:///debian-server?{socket}", clients=clients, **alike)
        second = Exported(f"nbd+unix:///backup%20of%20Monday?{socket}", read_only=True, **alike)
        found = [
            NodeExported("debian", "disk0", SOURCE, first, self.drive),
            NodeExported("monday", "snapshot-of-monday", "/srv/disks/monday.qcow2", second),
        ]
        found += [
            replace(found[1], id=f"export{n}", node=f"node{n}", shutting_down=n == 3)
            for n in range(3, self.count + 1)
        ]
        return tuple(found)


async def make_all(app: QApplication, folder: Path, wanted: list[str]) -> None:
    for theme in (ThemeChoice.LIGHT, ThemeChoice.DARK):
        shots = Shots(app, folder, theme)
        theme_of(app).choose(theme)
        for name in (
            "empty",
            "dialogs",
            "running",
            "stopped",
            "in_sync",
            "clients",
            "exports",
            "over",
        ):
            if not wanted or name in wanted:
                await getattr(shots, name)()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "states", nargs="*", help="empty dialogs running stopped in_sync clients exports over"
    )
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    app = make_application()
    qasync.run(make_all(app, given.folder, given.states))
    return 0


if __name__ == "__main__":
    sys.exit(main())
