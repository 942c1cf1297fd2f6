"""What happens between a click and a verb: dialogs, questions, and their answers."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QDialog, QWidget

from mirrorgui.errors import MirrorGUIError, NodeError
from mirrorgui.mirror.options import ErrorPolicy
from mirrorgui.mirror.snapshot import JobSnapshot, Phase
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.ui.availability import Act, availability
from mirrorgui.ui.controller import Controller
from mirrorgui.ui.dialogs.files import choose_file
from mirrorgui.ui.dialogs.live import PolicyDialog, SpeedDialog
from mirrorgui.ui.dialogs.new_mirror import NewMirrorDialog
from mirrorgui.ui.dialogs.questions import ask_question
from mirrorgui.ui.frame import Frame
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.node_exports import (
    clients_of,
    close_on_exports_question,
    refusal_text,
    stop_export_question,
)
from mirrorgui.ui.notices import NoticeAction, closing_notice, refused
from mirrorgui.ui.questions import (
    Answer,
    cancel_question,
    close_question,
    complete_question,
    discard_question,
    end_demonstration_question,
    stop_serving_question,
)
from mirrorgui.ui.settings import Settings
from mirrorgui.ui.tasks import TaskSet

_ENDING = (JobStatus.WAITING, JobStatus.PENDING, JobStatus.ABORTING)


def _is_ending(frame: Frame) -> bool:
    return frame.snapshot.phase is Phase.SWITCHING or frame.snapshot.status in _ENDING


Work: TypeAlias = Coroutine[Any, Any, None]
Flow: TypeAlias = Callable[[Frame], Work]


class Flows(QObject):
    """Runs the dialogs of one window. A flow that is open already is not opened twice.

    Signals:
        new_closed: the New mirror dialog has closed; what it remembers is in the settings.
    """

    new_closed = Signal()

    def __init__(self, window: QWidget, controller: Controller, settings: Settings) -> None:
        super().__init__(window)
        self._window = window
        self._controller = controller
        self._settings = settings
        self._asking = False
        self.tasks = TaskSet(controller.loop)
        self.new_dialog: NewMirrorDialog | None = None

    # New mirrors.

    def new_mirror(self, source: str = "", target: str = "") -> None:
        """Open the New mirror dialog, or bring it to the front; starts nothing."""
        dialog = self._new_dialog()
        if source:
            dialog.set_source(source)
        if target:
            dialog.set_target(target)

    def _new_dialog(self) -> NewMirrorDialog:
        if self.new_dialog is None:
            dialog = NewMirrorDialog(self._controller, self._settings, self.tasks, self._window)
            dialog.finished.connect(self._new_closed)
            self.new_dialog = dialog
            dialog.open()
        self.new_dialog.raise_()
        return self.new_dialog

    def _new_closed(self) -> None:
        self.new_dialog = None
        self.new_closed.emit()

    def open_source(self) -> None:
        """Choose a file and fill it into the New mirror dialog as source."""
        choose_file(
            self._window, tr("Choose a source"), self._source_chosen, folder=self._settings.folder
        )

    def _source_chosen(self, path: str) -> None:
        self.new_mirror(path)

    def retry(self) -> None:
        """Open the dialog filled in as it was; the target needs a new choice."""
        key = self._controller.selected
        request = self._controller.request(key) if key is not None else None
        frame = self._controller.frame()
        if request is None or frame is None:
            return
        if frame.exported is not None:
            # Its clients still use the source, which the new mirror has to open.
            self._once(self._remove_served(frame, lambda: self._new_dialog().fill(request)))
        else:
            self._new_dialog().fill(request)

    def demonstrate(self) -> None:
        """Begin the demonstration; with one that runs already, show that one."""
        for key in self._controller.keys:
            if self._controller.demonstration(key) is not None:
                self._controller.select(key)
                return
        self._once(self._begin_demonstration())

    async def _begin_demonstration(self) -> None:
        from mirrorgui.ui.demonstrating import begin

        try:
            await begin(self._controller)
        except (MirrorGUIError, OSError) as error:
            self._controller.tell(refused(tr("The demonstration cannot start: {e}.", e=error)))

    # Verbs that ask first.

    def complete(self) -> None:
        """Ask, then switch clients over to the target."""
        self._ask_about(Act.COMPLETE, self._complete)

    async def _complete(self, frame: Frame) -> None:
        request = self._controller.request(frame.key)
        backing = self._controller.backing(frame.key)
        clients = self._controller.clients(frame.key)
        question = complete_question(
            frame.names, clients=clients, backing=backing if request is not None else ""
        )
        answer, _ = await ask_question(question, self._window)
        if answer is Answer.SWITCH and self._controller.selected == frame.key:
            self._controller.complete()

    def finish(self) -> None:
        """End in sync, without switching. Nothing is lost by it, so nothing is asked."""
        self._controller.finish()

    def cancel(self) -> None:
        """Ask, then stop the mirror."""
        self._ask_about(Act.CANCEL, self._cancel)

    async def _cancel(self, frame: Frame) -> None:
        created = self._controller.target_created(frame.key)
        if frame.snapshot.ready:
            question = discard_question()
        else:
            question = cancel_question(frame.snapshot, frame.names, created=created)
        answer, delete = await ask_question(question, self._window)
        if self._controller.selected != frame.key:
            return
        if answer is Answer.FINISH:
            self._controller.finish()
        elif answer in (Answer.CANCEL, Answer.STOP):
            now = self._controller.frame(frame.key)
            # It may have come in sync while the question stood: a whole copy is not deleted.
            delete = delete and now is not None and not now.snapshot.ready
            self._controller.cancel(delete_incomplete=delete)

    def end_demonstration(self) -> None:
        """Ask while it runs, then end it and delete its files."""
        frame = self._controller.frame()
        if frame is not None and frame.demonstration:
            self._once(self._end_demonstration(frame))

    async def _end_demonstration(self, frame: Frame) -> None:
        if frame.snapshot.status not in OVER:
            answer, _ = await ask_question(end_demonstration_question(), self._window)
            if answer is not Answer.STOP:
                return
        await self._controller.remove(frame.key)

    def remove(self) -> None:
        """Take an ended mirror off the list."""
        frame = self._controller.frame()
        if frame is None or not availability(Act.REMOVE, frame.snapshot).enabled:
            return
        if frame.exported is not None and self._controller.clients(frame.key):
            self._once(self._remove_served(frame))
        else:
            self._once(self._controller.remove(frame.key))

    async def _remove_served(self, frame: Frame, after: Callable[[], None] | None = None) -> None:
        clients = self._controller.clients(frame.key) or 0
        served = ((frame.snapshot, frame.names),)
        question = stop_serving_question(served, clients=clients, closing=False)
        answer, _ = await ask_question(question, self._window)
        if answer is Answer.STOP:
            await self._controller.remove(frame.key)
            if after is not None:
                after()

    # Exports that a QMP client has added.

    def stop_export(self, export_id: str) -> None:
        """Ask when clients use it, then offer an export no longer."""
        self._once(self._stop_export(export_id))

    async def _stop_export(self, export_id: str) -> None:
        exports = self._controller.exports
        exports.look()
        export = exports.export(export_id)
        if export is None:
            return
        if export.exported.clients:
            answer, _ = await ask_question(stop_export_question(export), self._window)
            if answer is not Answer.STOP:
                return
        try:
            await exports.remove(export_id)
        except NodeError as error:
            self._controller.tell(refused(refusal_text(error)))

    # Verbs with a small dialog.

    def toggle_pause(self) -> None:
        """Pause, or resume what is paused."""
        snapshot = self._snapshot()
        if availability(Act.RESUME, snapshot).enabled:
            self._controller.resume()
        elif availability(Act.PAUSE, snapshot).enabled:
            self._controller.pause()

    def speed(self) -> None:
        """Ask for a speed limit."""
        snapshot = self._snapshot()
        if availability(Act.SPEED, snapshot).enabled and snapshot is not None:
            dialog = SpeedDialog(snapshot.speed, self._window)
            dialog.chosen.connect(self._controller.set_speed)
            dialog.open()

    def policy(self) -> None:
        """Ask what to do about errors from now on."""
        key = self._controller.selected
        if key is not None and availability(Act.POLICY, self._snapshot()).enabled:
            dialog = PolicyDialog(*self._controller.policies(key), self._window)
            dialog.chosen.connect(self._policies_chosen)
            dialog.open()

    def _policies_chosen(self, policies: tuple[ErrorPolicy, ErrorPolicy]) -> None:
        self._controller.set_policy(*policies)

    def notice_triggered(self, action: NoticeAction) -> None:
        """Do what a button of a mirror's message bar says."""
        deeds = {
            NoticeAction.RESUME: self._controller.resume,
            NoticeAction.CHANGE_POLICY: self.policy,
            NoticeAction.CANCEL: self.cancel,
            NoticeAction.RETRY: self.retry,
            NoticeAction.RAISE_LIMIT: self.speed,
            NoticeAction.WRITE_BLOCKING: self._controller.use_write_blocking,
        }
        if action in deeds:
            deeds[action]()

    # Closing.

    def close(self, quit_now: Callable[[], None]) -> None:
        """Ask when a mirror is at work, then call ``quit_now``, or do not.

        A demonstration is nobody's data: it ends without a question. A mirror that is being
        switched is waited for.
        """
        ending = [each for each in self._controller.working() if _is_ending(each)]
        if ending:
            self._controller.tell(closing_notice(ending[0].names))
            self._once(self._close_later(quit_now))
            return
        self._controller.exports.look()
        if self._at_work() or self._controller.serving() or self._clients_of_exports():
            self._once(self._ask_to_close(quit_now))
        else:
            quit_now()

    def _at_work(self) -> list[Frame]:
        return [each for each in self._controller.working() if not each.demonstration]

    async def _ask_to_close(self, quit_now: Callable[[], None]) -> None:
        working, served = self._at_work(), list(self._controller.serving())
        if working:
            await self._close(working, quit_now)
        elif served:
            await self._close_served(served, quit_now)
        elif self._clients_of_exports():
            await self._close_on_exports(quit_now)
        else:
            quit_now()

    def _clients_of_exports(self) -> int:
        return clients_of(self._controller.exports.latest)

    async def _close_on_exports(self, quit_now: Callable[[], None]) -> None:
        question = close_on_exports_question(self._controller.exports.latest)
        answer, _ = await ask_question(question, self._window)
        if answer is Answer.STOP:
            quit_now()

    async def _close_served(self, served: list[Frame], quit_now: Callable[[], None]) -> None:
        pairs = tuple((each.snapshot, each.names) for each in served)
        clients = self._count_clients(served) or 0
        question = stop_serving_question(pairs, clients=clients, closing=True)
        answer, _ = await ask_question(question, self._window)
        if answer is Answer.STOP:
            quit_now()

    def _count_clients(self, frames: list[Frame]) -> int | None:
        """Return how many clients lose their disk with the window; None when nothing is exported.

        Those of commands are counted by export, for a mirror of such a node knows them, too.
        """
        own = [each for each in frames if each.exported and not each.exported.by_command]
        if not own and not self._controller.exports.latest:
            return None
        counts = [self._controller.clients(each.key) or 0 for each in own]
        return sum(counts) + self._clients_of_exports()

    async def _close_later(self, quit_now: Callable[[], None]) -> None:
        await self._controller.wait_for_ending()
        self._controller.look_now()
        await self._ask_to_close(quit_now)

    async def _close(self, working: list[Frame], quit_now: Callable[[], None]) -> None:
        created = any(self._controller.target_created(each.key) for each in working)
        pairs = tuple((each.snapshot, each.names) for each in working)
        clients = self._count_clients([*working, *self._controller.serving()])
        question = close_question(pairs, created=created, clients=clients)
        answer, delete = await ask_question(question, self._window)
        if answer is Answer.FINISH:
            await self._controller.finish_all()
        elif answer is Answer.STOP and delete:
            self._controller.delete_incomplete_targets()
        if answer is not Answer.KEEP:
            quit_now()

    async def shutdown(self) -> None:
        """Close what is open."""
        # Tasks first: they let go of their dialogs.
        await self.tasks.cancel_all()
        for dialog in self._window.findChildren(QDialog):
            dialog.reject()

    # Helpers.

    def _snapshot(self) -> JobSnapshot | None:
        frame = self._controller.frame()
        return frame.snapshot if frame is not None else None

    def _ask_about(self, act: Act, flow: Flow) -> None:
        frame = self._controller.frame()
        if frame is not None and availability(act, frame.snapshot).enabled:
            self._once(flow(frame))

    def _once(self, work: Work) -> None:
        if self._asking:
            work.close()
            return
        self._asking = True
        self.tasks.spawn(self._run(work))

    async def _run(self, work: Work) -> None:
        try:
            await work
        finally:
            self._asking = False
