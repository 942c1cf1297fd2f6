"""One mirror in this process, timed from the job's creation to its end: ``SOURCE TARGET``.

``--window`` runs it in the main window, on its event loop, while map and charts are painted.
"""

import argparse
import asyncio
import json
import os
import resource
import time
from pathlib import Path

from mirrorgui.mirror.options import MirrorOptions, SyncMode
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.session import MirrorRequest, MirrorSession, WhenReady


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--window", action="store_true")
    parser.add_argument("--source-format", default="raw")
    parser.add_argument("--target-format", default="raw")
    parser.add_argument("--sync", default="full")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    request = MirrorRequest(
        given.source,
        given.target,
        source_format=given.source_format,
        target_format=given.target_format,
        overwrite=True,
        when_ready=WhenReady.COMPLETE,
        options=MirrorOptions(sync=SyncMode(given.sync), copy_threads=given.threads),
    )
    if given.window:
        wall, cpu, opening, stall = _in_window(request)
    else:
        (wall, cpu), opening, stall = asyncio.run(_engine(request)), 0.0, 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {"wall": wall, "cpu": cpu, "peak": peak, "opening": opening, "stall": stall}
    print(json.dumps(result))


async def _engine(request: MirrorRequest) -> tuple[float, float]:
    session = await MirrorSession.open(request)
    started, cpu = time.perf_counter(), time.process_time()
    session.start()
    final = await session.wait()
    result = time.perf_counter() - started, time.process_time() - cpu
    await session.close()
    assert final.outcome is Outcome.SWITCHED, final.error
    return result


def _in_window(request: MirrorRequest) -> tuple[float, float, float, float]:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from tests.bench.window import mirror_in_window

    run = mirror_in_window(request)
    return run.wall_s, run.cpu_s, run.opening_s, run.stall_s


if __name__ == "__main__":
    assert Path("mirrorgui").is_dir()
    main()
