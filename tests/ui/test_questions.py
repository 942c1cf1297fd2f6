"""The questions, word for word."""

import pytest

from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.names import Names
from mirrorgui.ui.questions import (
    Answer,
    cancel_question,
    close_question,
    complete_question,
    discard_question,
    end_demonstration_question,
    stop_serving_question,
)
from tests.ui.fakes import snapshot

NAMES = Names.of("/vm/source.qcow2", "/vm2/target.qcow2")


def labels(question):
    return [each.label.replace("&", "") for each in question.choices]


def all_questions():
    ready = snapshot(JobStatus.READY)
    return [
        cancel_question(snapshot(), NAMES, created=True),
        discard_question(),
        complete_question(NAMES, clients=2),
        close_question(((snapshot(), NAMES),), created=True),
        close_question(((ready, NAMES),), created=False, clients=2),
        stop_serving_question(((ready, NAMES),), clients=2, closing=True),
        stop_serving_question(((ready, NAMES),), clients=2, closing=False),
        end_demonstration_question(),
    ]


def test_cancel():
    question = cancel_question(snapshot(), NAMES, created=True)
    assert question.title == "Cancel this mirror?"
    assert question.text == (
        "target.qcow2 is incomplete (62 %) and not usable. Clients stay on the source; nothing is "
        "lost there."
    )
    assert question.tick.replace("&", "") == "Delete the incomplete file"
    assert labels(question) == ["Keep mirroring", "Cancel the mirror"]
    assert not cancel_question(snapshot(), NAMES, created=False).tick


def test_discard():
    question = discard_question()
    assert question.title == "Stop without completing?"
    assert question.text == "To get a usable copy choose Finish without switching instead."
    assert labels(question) == ["Keep mirroring", "Finish without switching", "Stop now"]


def test_complete():
    question = complete_question(NAMES, clients=2, backing="base.qcow2")
    assert question.title == "Switch to target.qcow2?"
    assert question.text == (
        "The 2 connected clients continue on the target. The source is left as it is from this "
        "moment and no longer receives writes. target.qcow2 will not need base.qcow2."
    )
    assert labels(question) == ["Not yet", "Switch"]
    assert complete_question(NAMES, clients=1).text.startswith("The 1 connected client continues")
    assert complete_question(NAMES, clients=0).text.startswith("No client is connected")
    assert complete_question(NAMES, clients=None).text.startswith("Clients continue")


def test_close():
    question = close_question(((snapshot(), NAMES),), created=True)
    assert question.title == "A mirror is running."
    assert question.text == (
        "target.qcow2 is incomplete (62 %) and will not be usable. Nothing is lost on the source."
    )
    assert labels(question) == ["Stay", "Stop everything"]
    assert question.tick


def test_close_counts_the_clients():
    question = close_question(((snapshot(), NAMES),), created=True, clients=2)
    assert question.text == (
        "target.qcow2 is incomplete (62 %) and will not be usable. 2 clients are using the "
        "export. Clients lose their disk; nothing is lost on the source."
    )


@pytest.mark.parametrize(
    ("outcome", "image"),
    [(Outcome.SWITCHED, "target.qcow2"), (Outcome.FINISHED, "source.qcow2")],
)
def test_stop_serving(outcome, image):
    served = ((snapshot(JobStatus.NULL, outcome=outcome), NAMES),)
    question = stop_serving_question(served, clients=1, closing=False)
    assert question.title == f"Stop offering {image} to clients?"
    assert question.text == (
        "1 client is using the export. Clients lose their disk; what they have written stays in "
        f"{image}."
    )
    assert labels(question) == ["Stay", "Disconnect and remove"]
    assert question.choices[1].dangerous
    idle = stop_serving_question(served, clients=0, closing=True)
    assert labels(idle)[1] == "Disconnect and close"
    assert not idle.choices[1].dangerous


def test_close_in_sync_offers_the_usable_end():
    ready = snapshot(JobStatus.READY)
    question = close_question(((ready, NAMES), (ready, NAMES)), created=True)
    assert question.title == "2 mirrors are running."
    assert labels(question)[1] == "Finish without switching, then close"
    assert not question.tick
    both = close_question(((ready, NAMES), (snapshot(), NAMES)), created=True)
    assert Answer.FINISH not in [each.answer for each in both.choices]


def test_answers_are_verbs_and_the_first_is_harmless():
    for question in all_questions():
        words = {label.lower() for label in labels(question)}
        assert not words & {"yes", "no", "ok"}
        assert question.choices[0].answer is Answer.KEEP
        assert not question.choices[0].dangerous


def test_mnemonics_of_one_question_differ():
    for question in all_questions():
        texts = [each.label for each in question.choices] + [question.tick]
        keys = [text[text.index("&") + 1].lower() for text in texts if "&" in text]
        assert len(keys) == len(set(keys)), texts
