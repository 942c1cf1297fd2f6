from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qmp.peers import Peer, running, start_daemon, start_ours


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, Peer]]:
    """qemu-storage-daemon and ours, each with an empty folder; used by one test after another."""
    folder: Path = tmp_path_factory.mktemp("qmp")
    with running(start_daemon, folder / "qemu") as daemon, running(start_ours, folder / "o") as our:
        yield daemon, our


@pytest.fixture
def peers(both: tuple[Peer, Peer]) -> Iterator[tuple[Peer, Peer]]:
    """Both of them; what a test leaves is taken away."""
    yield both
    for peer in both:
        peer.clear()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """Ours alone, for one test after another."""
    with running(start_ours, tmp_path_factory.mktemp("qmp")) as peer:
        yield peer


@pytest.fixture
def ours(served: Peer) -> Iterator[Peer]:
    """Ours alone; what a test leaves is taken away."""
    yield served
    served.clear()
