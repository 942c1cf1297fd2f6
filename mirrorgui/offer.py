"""The source offered to guests over NBD while it is mirrored. Imported only when asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirrorgui.errors import InvalidInput
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.nbd.export import Export
from mirrorgui.nbd.server import NbdServer
from mirrorgui.nbd.statistics import ConnectionStatistics
from mirrorgui.nbd.tls import TlsCredentials
from mirrorgui.nbd.uri import NbdAddress, parse_uri


class Offer:
    """A drive under an NBD address, with the job's dirty bitmap as ``qemu:dirty-bitmap:JOB``.

    Args:
        uri: where to listen; its path is the export's name, its certificates are the server's.
        read_only: guests may only read.
        allow_remote: other machines may reach it.

    Attributes:
        server: what guests connect to.
        export: what it offers; there is none before ``start``.

    Raises:
        InvalidInput: the URI or its certificates make no sense. Nothing listens yet.
    """

    export: Export

    def __init__(self, uri: str, *, read_only: bool, allow_remote: bool) -> None:
        self._read_only = read_only
        self._given = uri
        with self._named():
            self._address = parse_uri(uri)
            self.server = NbdServer(
                self._address, allow_remote=allow_remote, tls=_credentials(self._address)
            )

    def start(self, drive: Drive, job: MirrorJob) -> None:
        """Let guests in.

        Raises:
            InvalidInput: the address cannot be listened on; nothing was started.
        """
        self.export = Export(
            self._address.export,
            drive,
            description=f"{drive.name}, mirrored by {job.job_id}",
            read_only=self._read_only,
            bitmaps={job.job_id: job},
        )
        self.server.add_export(self.export, default=True)
        with self._named():
            self.server.start()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Give refusals the name of the option, and the value as it was given."""
        try:
            yield
        except InvalidInput as error:
            raise InvalidInput("export", self._given, error.reason) from error

    def stop(self) -> bool:
        """Disconnect the guests; False when a request of theirs still hangs in the drive."""
        return self.server.stop()

    @property
    def uri(self) -> str:
        """What guests open."""
        return self.server.uri(self._address.export)

    def clients(self) -> tuple[ConnectionStatistics, ...]:
        """Look at the guests' connections, the oldest first."""
        return self.server.connections()


def _credentials(address: NbdAddress) -> TlsCredentials | None:
    if not address.tls:
        return None
    folder = address.tls_certificates
    return TlsCredentials(Path(folder) if folder else None, verify_peer=address.tls_verify_peer)
