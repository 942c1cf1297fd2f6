"""What a frame of the window costs: ``python -m tests.bench.frame``.

Part one, ``map``: one frame of the map at 16 Mi chunks (1 TiB at 64 KiB), from the job's words to a
painted picture, in a small and a large window. To reach: under 15 ms.

Part two, ``stall``: the longest time for which the window's event loop does not turn while a mirror
runs at full speed. To reach: under 50 ms.

Without a screen it runs on Qt's offscreen platform, which paints with the same raster engine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

os.environ.setdefault("QT_API", "pyside6")
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PySide6")
if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtGui import QImage, QPainter
from PySide6.QtWidgets import QApplication

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.ui import style
from mirrorgui.ui.heatmap.geometry import CellOrder
from mirrorgui.ui.heatmap.panel import MapPanel
from mirrorgui.ui.pixel_view import PixelView
from mirrorgui.ui.theme import ThemeChoice, theme_of
from mirrorgui.units import GiB
from tests.bench.copy import fresh_target, make_mixed
from tests.ui.map_states import GRANULARITY, lifelike, operations_at, snapshot_of

CHUNKS = 16 << 20
FRAMES = 60
STALL_RUNS = 3
WARM_UP = 5
WINDOWS = ((1180, 760), (2560, 1440))


@dataclass
class Times:
    """Durations of one step of many frames, in milliseconds."""

    values: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def measure(self, work: Callable[[], object]) -> None:
        begin, begin_processor = time.perf_counter(), time.thread_time()
        work()
        self.values.append((time.perf_counter() - begin) * 1000)
        self.processor.append((time.thread_time() - begin_processor) * 1000)

    @property
    def middle(self) -> float:
        return statistics.median(self.values[WARM_UP:])

    @property
    def longest(self) -> float:
        return max(self.values[WARM_UP:])

    @property
    def own(self) -> str:
        """Processor time: what is left when others use the machine as well."""
        values = self.processor[WARM_UP:]
        return f"{statistics.median(values):5.1f} {max(values):6.1f}"

    def __str__(self) -> str:
        return f"{self.middle:5.1f} {self.longest:6.1f}"


class LivingMap:
    """A job under way: the front moves on, and a guest writes all over the place."""

    def __init__(self, chunks: int) -> None:
        self.words, self._front = lifelike(chunks)
        self._random = np.random.default_rng(4)
        self._frame = 0

    def step(self) -> tuple[JobSnapshot, MapWords]:
        """Make the next frame."""
        words, self._frame = self.words, self._frame + 1
        begin = self._front // 64
        words.copied[begin : begin + 64] |= words.dirty[begin : begin + 64]
        words.dirty[begin : begin + 64] = 0
        self._front = (begin + 64) * 64
        for chunk in self._random.integers(0, words.chunks, 2000).tolist():
            words.dirty[chunk // 64] |= np.uint64(1) << np.uint64(chunk % 64)
        snapshot = snapshot_of(words.chunks, operations_at(self._front, words.chunks))
        return replace(snapshot, generation=self._frame), words


def paint(view: PixelView, onto: QImage) -> None:
    """Paint a view as the screen would have it."""
    painter = QPainter(onto)
    view.render(painter)
    painter.end()


@dataclass
class Measured:
    """Frames of one view: the times of counting, of painting, and of both together."""

    cells: int
    count: Times
    draw: Times
    whole: Times


def measure_map(size: tuple[int, int], prepare: Callable[[MapPanel], None]) -> Measured:
    """Measure frames of the map in a window of a size."""
    panel = MapPanel()
    panel.resize(*size)
    panel.show()
    job = LivingMap(CHUNKS)
    panel.set_source("bench.img", CHUNKS * GRANULARITY, GRANULARITY)
    panel.update_frame(*job.step())
    prepare(panel)
    QApplication.processEvents()
    views = (panel.view, panel.bar)
    pictures = [QImage(each.size(), QImage.Format.Format_RGB32) for each in views]
    count, draw, whole = Times(), Times(), Times()
    for _ in range(FRAMES + WARM_UP):
        snapshot, words = job.step()

        def painting() -> None:
            for view, picture in zip(views, pictures, strict=True):
                paint(view, picture)

        def updating(snapshot: JobSnapshot = snapshot, words: MapWords = words) -> None:
            panel.update_frame(snapshot, words)

        def both() -> None:
            count.measure(updating)
            draw.measure(painting)

        whole.measure(both)
    cells = panel.view.viewport_.cells
    panel.close()
    panel.deleteLater()
    return Measured(cells, count, draw, whole)


def _fit(panel: MapPanel) -> None:
    panel.fit()


def _small_cells(panel: MapPanel) -> None:
    panel.view.viewport_.set_preferred_cell(4)
    panel.view.view_changed()


def _zoomed(panel: MapPanel) -> None:
    for _ in range(4):
        panel.zoom_in()


def _single(panel: MapPanel) -> None:
    panel.view.one_to_one(panel.view.viewport_.cells // 2)


def _hilbert(panel: MapPanel) -> None:
    panel.set_order(CellOrder.HILBERT)


CASES: dict[str, Callable[[MapPanel], None]] = {
    "whole image": _fit,
    "smallest cells": _small_cells,
    "zoomed 16 times": _zoomed,
    "single chunks": _single,
    "Hilbert": _hilbert,
}


def run_map() -> None:
    """Print the table of part one."""
    print(f"map, {CHUNKS:,} chunks, {FRAMES} frames, ms (median, longest)")
    print(
        f"{'window':>11} {'view':<16} {'cells':>7}  {'count':^12}  {'paint':^12}"
        f"  {'frame':^12}  {'processor':^12}"
    )
    for size in WINDOWS:
        for name, prepare in CASES.items():
            found = measure_map(size, prepare)
            window = f"{size[0]}x{size[1]}"
            print(
                f"{window:>11} {name:<16} {found.cells:>7}"
                f"  {found.count}  {found.draw}  {found.whole}  {found.whole.own}"
            )


def run_stall() -> None:
    """Print how long the window's loop is held up while a mirror runs at full speed."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        source, target = Path(folder, "source.img"), Path(folder, "target.img")
        make_mixed(source, 4 * GiB)
        print("a mirror of 4 GiB (2 GiB of data) on tmpfs at full speed, 1180x760, ms")
        for _ in range(STALL_RUNS):
            fresh_target(target, 4 * GiB)
            command = [sys.executable, "-m", "tests.bench.engine", "--window"]
            done = subprocess.run(
                [*command, str(source), str(target)], stdout=subprocess.PIPE, check=True, text=True
            )
            run = json.loads(done.stdout.splitlines()[-1])
            print(
                f"took {run['wall'] * 1000:6.0f}   longest stall {run['stall'] * 1000:5.1f}"
                f"   while its view is made {run['opening'] * 1000:5.1f}"
            )


SECTIONS: dict[str, Callable[[], None]] = {"map": run_map, "stall": run_stall}
"""Parts by name; each prints its own table."""


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.bench.frame")
    parser.add_argument("section", nargs="*", choices=[*SECTIONS, []], help="default: all")
    chosen = parser.parse_args().section or list(SECTIONS)
    app = QApplication([])
    theme_of(app).choose(ThemeChoice.LIGHT)
    style.apply(app)
    for name in chosen:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
