"""The clients that people use: the package qemu.qmp and its qmp-shell."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from qemu.qmp import ExecuteError, QMPClient

from tests.qmp.peers import SOCKET, Peer
from tests.qmp.scripts import MiB, compare, images, pattern

PATIENCE_S = 20


@pytest.mark.asyncio
async def test_the_library_starts_watches_and_completes_a_mirror(ours: Peer) -> None:
    images(ours)
    client = QMPClient("test")
    await client.connect(str(ours.folder / SOCKET))
    with client.listener(("JOB_STATUS_CHANGE", "BLOCK_JOB_READY")) as listener:
        arguments = {"job-id": "job", "device": "s", "target": "t", "sync": "full"}
        assert await client.execute("blockdev-mirror", arguments) == {}
        async with asyncio.timeout(PATIENCE_S):
            async for event in listener:
                if event["event"] == "BLOCK_JOB_READY":
                    assert event["data"]["offset"] == MiB
                    await client.execute("job-complete", {"id": "job"})
                elif event["data"]["status"] == "null":
                    break
    await client.disconnect()
    compare(ours, "s.raw", "t.raw")


@pytest.mark.asyncio
async def test_the_library_gets_errors_with_their_class(ours: Peer) -> None:
    client = QMPClient("test")
    await client.connect(str(ours.folder / SOCKET))
    with pytest.raises(ExecuteError) as caught:
        await client.execute("block-job-cancel", {"device": "x"})
    assert caught.value.error_class == "DeviceNotActive"
    assert str(caught.value) == "Block job 'x' not found"
    version = await client.execute("query-version")
    assert isinstance(version, dict)
    assert str(version["package"]).startswith("MirrorGUI")
    await client.disconnect()


def test_qmp_shell_starts_watches_and_completes_a_mirror(ours: Peer) -> None:
    ours.image("s.raw", MiB, pattern(MiB))
    ours.image("t.raw", MiB)
    shell = Path(sys.executable).with_name("qmp-shell")
    process = subprocess.Popen(
        [str(shell), str(ours.folder / SOCKET)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HOME": str(ours.folder)},  # it keeps its history there
    )

    def enter(*lines: str) -> None:
        assert process.stdin is not None
        process.stdin.write("".join(f"{line}\n" for line in lines))
        process.stdin.flush()

    try:
        enter(
            "blockdev-add driver=file filename=s.raw node-name=s",
            "blockdev-add driver=file filename=t.raw node-name=t",
            "blockdev-mirror job-id=job device=s target=t sync=full",
        )
        ours.wait_for("BLOCK_JOB_READY")
        enter("query-block-jobs", "job-complete id=job")
        ours.wait_for_status("null")
        # An empty line shows the events that have come since.
        said, warned = process.communicate("query-jobs\n\nquery-nonsense\n", PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert "Connected to QEMU 7.2" in said
    assert '"status": "ready"' in said
    events = re.findall(r"'event': '([A-Z_]+)'", said)
    assert [each for each in events if each != "JOB_STATUS_CHANGE"] == [
        "BLOCK_JOB_READY",
        "BLOCK_JOB_COMPLETED",
    ]
    assert re.findall(r"'status': '([a-z]+)'", said)[-1] == "null"
    assert "The command query-nonsense has not been found" in said + warned
    compare(ours, "s.raw", "t.raw")
