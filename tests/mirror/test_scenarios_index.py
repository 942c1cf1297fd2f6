"""Which scenario is tested where, and which wait.

The mirror job's behaviour is written down in numbered scenarios; a test of one bears its number.

In test_scenarios_basic.py: S01 S02 S03 S04 S05 S06 S08 S09 S10 S11 S13 S14
In test_options.py: S17
In test_scenarios_session.py: S15 S16 S18 S33 S94 S96
In test_scenarios_sparse.py: S19 S20 S21 S22 S23 S24 S25 S27 S28 S31 S32
In test_scenarios_writes.py: S34 S35 S37 S39 S40 S41 S42
In test_scenarios_active.py: S43 S44 S46 S48 S50 S51 S52
In test_scenarios_errors.py: S53 S54 S55 S56 S57 S58 S59 S60 S62 S63 S65 S66 S67 S68 S69 S71
In test_scenarios_control.py: S72 S73 S74 S75 S76 S77 S78 S80 S81 S82 S83 S84 S85 S86 S87 S89 S91
    S92 S95
In ../stateful/test_soak.py: S100

Waiting:
    S29 (clusters larger than a chunk over a backing file that is not opened): qcow2
    S90 (two jobs in one transaction): QMP's transactions
    S98 (replaces): QMP
    S99 (the connection to the target breaks): a network target

S19, S21 and S96 are played with images in memory that have a backing image, and are played again on
qcow2 files when there are any. S17's duplicate id and S69's second job of the same id belong to
whoever keeps several jobs: QMP.

Better than QEMU, and tested so: S08 (sizes exact to the byte), S25 (holes within a chunk stay
holes), S62 (a bounded rate of events), S80 (a soft cancel ends under constant writes), S83 (a
smooth limit, also when READY).
"""

import re
from pathlib import Path

HERE = Path(__file__).parent
UNUSED = {7, 12, 26, 30, 36, 38, 45, 47, 49, 61, 64, 70, 79, 88, 93, 97}
ALL = set(range(1, 101)) - UNUSED


def numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"S(\d+)", text)}


def claimed() -> dict[str, set[int]]:
    """What the text above says, by file."""
    assert __doc__ is not None
    listed = __doc__.partition("\nWaiting:")[0]
    found = re.findall(r"In (\S+): ((?:S\d+\s+)+)", listed + "\n")
    return {name: numbers(those) for name, those in found}


def waiting() -> set[int]:
    assert __doc__ is not None
    section = __doc__.partition("\nWaiting:")[2].partition("\n\n")[0]
    return {int(number) for number in re.findall(r"^ +S(\d+) ", section, re.MULTILINE)}


def scenarios_of(path: Path) -> set[int]:
    """The scenarios after which a file's tests are called."""
    names = re.findall(r"def test_((?:s\d+_)+)", path.read_text())
    return {int(number) for name in names for number in re.findall(r"s(\d+)_", name)}


def test_every_file_tests_what_is_said_of_it_and_nothing_unsaid() -> None:
    files = claimed()
    for name, scenarios in files.items():
        assert scenarios_of(HERE / name) == scenarios, name
    listed = {(HERE / name).resolve() for name in files}
    for path in HERE.glob("test_*.py"):
        if path.resolve() not in listed:
            assert scenarios_of(path) == set(), path.name


def test_every_scenario_is_tested_or_waits() -> None:
    done = set().union(*claimed().values())
    assert not done & waiting()
    assert done | waiting() == ALL
