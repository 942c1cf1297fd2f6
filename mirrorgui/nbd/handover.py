"""Requests that wait for a device: helping threads serve them and send their replies."""

import threading

from mirrorgui.nbd.constants import MAX_PAYLOAD
from mirrorgui.nbd.service import Job, Reply, Service
from mirrorgui.nbd.statistics import Counters
from mirrorgui.nbd.transport import Stream
from mirrorgui.nbd.workers import WorkerPool

_MAX_REQUESTS = 64
"""Requests of one connection with the helping threads; more wait in the socket."""

_MAX_BYTES = MAX_PAYLOAD
"""Their payloads, in and out; a single request is taken in any case."""


class Handover:
    """The requests of one connection that helping threads are busy with.

    Args:
        stream: where the replies go.
        send_lock: held while a reply is sent.
        service: serves the requests.
        pool: the helping threads.
        counters: ``in_flight`` is kept there.

    Concurrency: ``give``, ``has_room`` and ``wait`` belong to the connection's thread.
    """

    def __init__(
        self,
        stream: Stream,
        send_lock: threading.Lock,
        service: Service,
        pool: WorkerPool,
        counters: Counters,
    ) -> None:
        self._stream = stream
        self._send_lock = send_lock
        self._service = service
        self._pool = pool
        self._counters = counters
        self._changed = threading.Condition(threading.Lock())
        self.count = 0
        """Requests that have not been answered."""
        self._bytes = 0

    def has_room(self, job: Job) -> bool:
        """Whether ``give`` would not wait."""
        return not self.count or (
            self.count < _MAX_REQUESTS and self._bytes + job.length <= _MAX_BYTES
        )

    def give(self, jobs: list[Job]) -> None:
        """Let one helping thread serve requests, one after the other. Waits for room."""
        with self._changed:
            self._changed.wait_for(lambda: self.has_room(jobs[0]))
            self.count += len(jobs)
            self._bytes += sum(job.length for job in jobs)
            self._counters.in_flight = self.count
        self._pool.submit(lambda: self._help(jobs))

    def wait(self) -> None:
        """Wait until every request has been answered."""
        with self._changed:
            self._changed.wait_for(lambda: not self.count)

    def _help(self, jobs: list[Job]) -> None:
        unanswered = list(jobs)
        try:
            self._serve(jobs, unanswered)
        except OSError:
            pass  # the client has gone: the connection's own thread finds out as well
        finally:
            if unanswered:
                self._stream.abort()
                self._release(unanswered)

    def _serve(self, jobs: list[Job], unanswered: list[Job]) -> None:
        """Serve requests; send what is ready before each one that has to be waited for."""
        parts: Reply = []
        ready: list[Job] = []
        for job in jobs:
            reply = self._service.try_read(job) if ready else None
            if reply is None:
                if ready:
                    self._send(parts, ready, unanswered)
                    parts, ready = [], []
                reply = self._service.perform(job)
            parts += reply
            ready.append(job)
        self._send(parts, ready, unanswered)

    def _send(self, parts: Reply, ready: list[Job], unanswered: list[Job]) -> None:
        with self._send_lock:
            self._stream.send_parts(parts)
        del unanswered[: len(ready)]
        self._release(ready)

    def _release(self, jobs: list[Job]) -> None:
        with self._changed:
            self.count -= len(jobs)
            self._bytes -= sum(job.length for job in jobs)
            self._counters.in_flight = self.count
            self._changed.notify_all()
