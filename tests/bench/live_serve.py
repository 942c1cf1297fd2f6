"""A mirror with an export, told by lines: ``SOURCE TARGET SOCKET COPY-MODE``.

``start`` begins the job, ``left`` prints how many bytes are left, ``cancel`` ends it softly, the
end of input ends the process. Events are printed as JSON lines.
"""

import argparse
import asyncio
import json
import sys

from mirrorgui.mirror.events import JobEvent
from mirrorgui.mirror.options import CopyMode, MirrorOptions
from mirrorgui.session import ExportRequest, MirrorRequest, MirrorSession


def say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def tell(event: JobEvent) -> None:
    say(event.as_qmp())


async def serve(request: MirrorRequest) -> None:
    session = await MirrorSession.open(request)
    session.events.listen(tell)
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline()))
    say({"event": "SERVING", "data": {}})
    try:
        while line := (await lines.get()).strip():
            if line == "start":
                session.start()
            elif line == "cancel":
                session.job.cancel()
            else:
                say({"return": session.job.snapshot().remaining})
    finally:
        loop.remove_reader(sys.stdin)
        await session.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("socket")
    parser.add_argument("mode")
    given = parser.parse_args()
    request = MirrorRequest(
        given.source,
        given.target,
        source_format="raw",
        target_format="raw",
        overwrite=True,
        export=ExportRequest(f"nbd+unix:///disk?socket={given.socket}"),
        options=MirrorOptions(copy_mode=CopyMode(given.mode)),
    )
    asyncio.run(serve(request))


if __name__ == "__main__":
    main()
