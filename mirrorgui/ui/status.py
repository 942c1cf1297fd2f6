"""The line at the bottom: the job in QEMU's words, for those who know them."""

from PySide6.QtWidgets import QLabel, QStatusBar, QWidget

from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.elide import ElidedLabel
from mirrorgui.ui.i18n import ntr, tr
from mirrorgui.ui.style import set_look
from mirrorgui.units import format_size


class StatusLine(QStatusBar):
    """Job name and status, parameters, operations in flight, errors."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeGripEnabled(False)
        self.job = QLabel(self)
        # Gives way in a narrow window, so that the number of errors is never pushed out of it.
        self.parameters = ElidedLabel(self)
        self.errors = QLabel(self)
        self.awake = QLabel(tr("Sleep is prevented"), self)
        self.awake.setToolTip(tr("As long as a mirror works or a client is connected."))
        for label in (self.job, self.parameters, self.awake, self.errors):
            set_look(label, "caption")
            label.setContentsMargins(6, 2, 6, 2)
        self.addWidget(self.job)
        self.addWidget(self.parameters, 1)
        self.addPermanentWidget(self.awake)
        self.addPermanentWidget(self.errors)
        self.awake.hide()

    def show_awake(self, awake: bool) -> None:
        """Say whether the computer is kept from sleeping."""
        self.awake.setVisible(awake)

    def update_job(self, snapshot: JobSnapshot | None) -> None:
        """Show a job, or none."""
        self.setVisible(snapshot is not None)
        if snapshot is None:
            return
        # NULL says that nobody can ask for the job any more, which is of no interest here.
        status = JobStatus.CONCLUDED if snapshot.status is JobStatus.NULL else snapshot.status
        self._say(self.job, f"{snapshot.job_id}: {status.value}")
        self.parameters.set_full_text(
            tr(
                "sync={sync}  copy-mode={mode}  granularity={granularity} ({chunks})  "
                "buf-size={buffer}  in flight: {flying} ({bytes})",
                sync=snapshot.sync.value,
                mode=snapshot.copy_mode.value,
                granularity=format_size(snapshot.granularity),
                chunks=ntr("{n} chunk", "{n} chunks", snapshot.chunks),
                buffer=format_size(snapshot.buf_size),
                flying=len(snapshot.operations),
                bytes=format_size(snapshot.in_flight_bytes),
            )
        )
        self._say(self.errors, ntr("{n} error", "{n} errors", snapshot.error_count))

    @staticmethod
    def _say(label: QLabel, text: str) -> None:
        if label.text() != text:
            label.setText(text)
