"""A web server that answers requests for ranges, as the protocol driver of QEMU needs one."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving_ranges(folder: Path) -> Iterator[int]:
    """Serve the files of a folder; yields the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            content = (folder / self.path.lstrip("/")).read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            total = len(content)
            self.send_response(206 if asked else 200)
            if asked:
                first, last = int(asked[1]), min(int(asked[2]), total - 1)
                content = content[first : last + 1]
                self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_GET = _answer  # noqa: N815
        do_HEAD = _answer  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
