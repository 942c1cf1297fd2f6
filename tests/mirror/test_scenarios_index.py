"""Which scenario is tested where.

The mirror job's behaviour is written down in numbered scenarios; a test of one bears its number.

In test_scenarios_basic.py: S01 S02 S03 S04 S05 S06 S08 S09 S10 S11 S13 S14
In test_options.py: S17
In test_scenarios_session.py: S15 S16 S18 S33 S94 S96
In test_scenarios_sparse.py: S19 S20 S21 S22 S23 S24 S25 S27 S28 S31 S32
In test_scenarios_chain.py: S29
In test_scenarios_qcow2.py: S19 S21 S22 S23 S24 S25 S27 S28 S29 S31 S32 S96
In test_scenarios_writes.py: S34 S35 S37 S39 S40 S41 S42
In test_scenarios_active.py: S43 S44 S46 S48 S50 S51 S52
In test_scenarios_errors.py: S53 S54 S55 S56 S57 S58 S59 S60 S62 S63 S65 S66 S67 S68 S69 S71
In test_scenarios_control.py: S72 S73 S74 S75 S76 S77 S78 S80 S81 S82 S83 S84 S85 S86 S87 S89 S91
    S92 S95
In ../stateful/test_soak.py: S100
In ../qmp/test_conformance_basic.py: S01 S02 S03 S04 S05 S06 S09 S10 S11 S13 S14 S15 S16 S17 S18
In ../qmp/test_conformance_data.py: S19 S20 S21 S22 S23 S25 S29 S31 S32 S37 S43 S44 S46 S48 S99
In ../qmp/test_conformance_images.py: S08 S24 S27 S28 S33 S96
In ../qmp/test_conformance_races.py: S34 S35 S39 S40 S41 S42 S50 S51 S52 S80
In ../qmp/test_conformance_errors.py: S53 S54 S55 S56 S57 S58 S59 S60 S62 S63 S65 S66 S67 S68 S69
    S71
In ../qmp/test_conformance_control.py: S72 S73 S74 S75 S76 S77 S78 S81 S82 S83 S84 S85 S86 S87 S89
    S90 S92 S94 S95 S98
In ../qmp/test_jobs.py: S98
In ../qmp/test_random_jobs.py: S100
In ../qmp/test_serve.py: S91

With images in memory and with qcow2 files: S19 to S32 and S96.

What is in ../qmp is played over a socket: all of them, and on qemu-storage-daemon too but for S27,
S28, S50, S51, S52 (options and commands of later versions), S42 (slow there), S81, S83 (which it
does not keep) and S100.

Two mirrors in one transaction (S90) cannot be: ``transaction`` takes no mirror in QEMU either, and
its test says so. There is no quorum for S98; a filter's child is replaced in its stead.

Better than QEMU, and tested so: S08 (sizes exact to the byte), S25 (holes within a chunk stay
holes), S62 (a bounded rate of events), S80 (a soft cancel ends under constant writes), S83 (a
smooth limit, also when READY).
"""

import re
from pathlib import Path

HERE = Path(__file__).parent
UNUSED = {7, 12, 26, 30, 36, 38, 45, 47, 49, 61, 64, 70, 79, 88, 93, 97}
ALL = set(range(1, 101)) - UNUSED

SOCKET_ONLY = {90, 98, 99}
"""What takes a monitor, a graph of nodes or a network."""


def numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"S(\d+)", text)}


def claimed() -> dict[str, set[int]]:
    """What the text above says, by file."""
    assert __doc__ is not None
    found = re.findall(r"In (\S+): ((?:S\d+\s+)+)", __doc__ + "\n")
    return {name: numbers(those) for name, those in found}


def scenarios_of(path: Path) -> set[int]:
    """The scenarios after which a file's tests are called."""
    names = re.findall(r"def test_((?:s\d+_)+)", path.read_text())
    return {int(number) for name in names for number in re.findall(r"s(\d+)_", name)}


def test_every_file_tests_what_is_said_of_it_and_nothing_unsaid() -> None:
    files = claimed()
    for name, scenarios in files.items():
        assert scenarios_of(HERE / name) == scenarios, name
    listed = {(HERE / name).resolve() for name in files}
    for path in (*HERE.glob("test_*.py"), *HERE.glob("../qmp/test_*.py")):
        if path.resolve() not in listed:
            assert scenarios_of(path) == set(), path.name


def test_every_scenario_is_tested_with_jobs_alone_and_over_the_socket() -> None:
    files = claimed()
    over_the_socket = {name for name in files if name.startswith("../qmp/")}
    assert set().union(*(files[name] for name in over_the_socket)) == ALL
    alone = set().union(*(files[name] for name in set(files) - over_the_socket))
    assert alone == ALL - SOCKET_ONLY
