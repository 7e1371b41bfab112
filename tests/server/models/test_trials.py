"""Processes in which models are tried: how many there are, which are kept, and what is told of one that ends.

Programs are stood in for by pipes; real ones are tried in ``tests/server/experiments/test_graph_rules.py``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.model_scoring import ModelAnswers
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import trial
from airflow_provider_azureml_classic.server.experiments.trial import Question
from airflow_provider_azureml_classic.server.models import trials as trials_module
from airflow_provider_azureml_classic.server.models.trials import Trials

MODEL = Path("/models/m.ilearner")


class Program:
    """Stands for a process: what it is asked, the lines that it answers, and what becomes of it.

    :param lines: its answers, there before it is asked; without any it has ended.
    """

    def __init__(self, *lines: str) -> None:
        (reading, answers), (questions, asked) = os.pipe(), os.pipe()
        os.write(answers, "".join(f"{line}\n" for line in lines).encode())
        os.close(answers)
        self.stdout, self.stdin = os.fdopen(reading), os.fdopen(asked, "w")
        self._questions = os.fdopen(questions)
        self.ended: list[str] = []

    def asked(self) -> Any:
        """The next question."""
        return json.loads(self._questions.readline())

    def is_deaf(self) -> None:
        """Nobody reads its questions."""
        self._questions.close()

    def kill(self) -> None:
        """End it."""
        self.ended.append("kill")

    def wait(self) -> None:
        """It has ended."""
        self.ended.append("wait")

    def close(self) -> None:
        """Close what is open."""
        for stream in (self._questions, self.stdout):
            stream.close()
        with suppress(OSError):
            self.stdin.close()


class Programs:
    """Those that are started, in order; how is noted."""

    def __init__(self, *programs: Program) -> None:
        self.programs, self.waiting = list(programs), list(programs)
        self.started: list[tuple[Any, Any]] = []

    def start(self, command: list[str], **more: Any) -> Program:
        """Start the next one."""
        self.started.append((command, more))
        return self.waiting.pop(0)


Prepare = Callable[..., Programs]


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Prepare]:
    """Puts stand-ins in the place of processes."""
    all_: list[Program] = []

    def prepared(*programs: Program) -> Programs:
        made = Programs(*programs)
        all_.extend(programs)
        monkeypatch.setattr(trials_module, "subprocess", SimpleNamespace(Popen=made.start, PIPE="pipe"))
        return made

    yield prepared
    for program in all_:
        program.close()


FINE, BAD = "[null, null]", '[null, ["ModelInvalid", "It is odd."]]'


def test_a_process_is_started_when_it_is_needed_and_kept(prepare: Prepare) -> None:
    """With the seconds that it may take, in a session of its own; a refused model is no fault of its process."""
    program = Program(FINE, BAD, FINE)
    programs = prepare(program)
    trials = Trials(1, cpu_seconds=7)
    assert programs.started == []
    trials(MODEL)
    with pytest.raises(AzureMLClassicError, match=r"It is odd\.") as caught:
        trials(MODEL)
    assert caught.value.detail_code == "ModelInvalid"
    trials(MODEL)
    [(command, more)] = programs.started
    assert command == [sys.executable, "-m", trial.__name__, "7"]
    assert more == {"stdin": "pipe", "stdout": "pipe", "text": True, "start_new_session": True}
    assert [program.asked()["model"] for _ in range(3)] == [str(MODEL)] * 3
    assert program.ended == []
    trials.close()
    assert program.ended == ["kill", "wait"]
    assert program.stdin.closed
    assert program.stdout.closed


def deaf() -> Program:
    """One whose end is seen when it is asked; what was to be written is lost when its stream is closed, too."""
    program = Program()
    program.is_deaf()
    return program


@pytest.mark.parametrize("ends", [Program, deaf, lambda: Program("[")], ids=["silent", "deaf", "half a line"])
def test_one_that_ends_is_told_and_replaced(prepare: Prepare, ends: Callable[[], Program]) -> None:
    """Its model is refused; the next one has a process of its own."""
    first, second = ends(), Program(FINE)
    programs = prepare(first, second)
    trials = Trials(1)
    with pytest.raises(AzureMLClassicError, match="its trial was ended, as it took more than 10 s") as caught:
        trials(MODEL)
    assert caught.value.detail_code == "ModelInvalid"
    assert first.ended == ["kill", "wait"]
    trials(MODEL)
    assert len(programs.started) == 2
    assert programs.started[0][0][-1] == "10"
    trials.close()


def test_one_that_says_nothing_is_ended(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the seconds that a trial may take in all."""
    monkeypatch.setattr(trials_module, "TRIAL_SECONDS", 0.01)
    reading, writing = os.pipe()
    hung = Program()
    hung.stdout.close()
    hung.stdout = os.fdopen(reading)
    prepare(hung)
    with pytest.raises(AzureMLClassicError, match="its trial was ended"):
        Trials(1)(MODEL)
    assert hung.ended == ["kill", "wait"]
    os.close(writing)


def test_answers_are_read_as_what_was_asked_for(prepare: Prepare) -> None:
    """Those of one model, and how two differ."""
    answers = ModelAnswers(Table(("y",), [["1"]]), Digests("d" * 64, "c" * 64))
    rehearsal = Rehearsal(calls=2, rows=5, refused={"live": 0, "new": 1})
    program = Program(json.dumps([answers.to_wire(), None]), json.dumps([rehearsal.to_json(), None]))
    prepare(program)
    trials = Trials(1)
    assert trials.ask(Question(MODEL, "Line")).to_wire() == answers.to_wire()
    assert program.asked()["experiment"] == "Line"
    assert trials.rehearse(Question(MODEL, "Line", live=MODEL)) == rehearsal
    assert program.asked()["live"] == str(MODEL)
    trials.close()


def test_so_many_questions_at_a_time(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused at once; trials before a model is put in place are not counted; what has ended makes room."""
    monkeypatch.setattr(trials_module, "MOST_QUESTIONS", 1)
    answers = ModelAnswers(Table(("y",), [["1"]]), Digests("d" * 64, "c" * 64))
    prepare(Program(json.dumps([answers.to_wire(), None]), FINE, json.dumps([answers.to_wire(), None])))
    trials = Trials(1)
    question = Question(MODEL, "Line")
    with trials._places:
        with pytest.raises(AzureMLClassicError, match="is asking 1 models already") as caught:
            trials.ask(question)
        assert caught.value.detail_code == "TooManyConcurrentRequests"
    trials.ask(question)
    trials(MODEL)
    trials.ask(question)
    trials.close()


def test_so_many_processes_at_a_time(prepare: Prepare) -> None:
    """Two by default; a third trial waits for one of them, and is told so when the server stops meanwhile."""
    programs = prepare(Program(FINE), Program(FINE))
    trials = Trials()
    with trials._free, trials._free:
        assert not trials._free.acquire(blocking=False)
        ended: list[BaseException] = []

        def wait() -> None:
            try:
                trials(MODEL)
            except AzureMLClassicError as error:
                ended.append(error)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        trials.close()
        assert programs.started == []
    thread.join(60)
    (error,) = ended
    assert isinstance(error, AzureMLClassicError)
    assert (error.detail_code, error.message) == ("NoMoreResources", "The server is stopping; try again.")


def test_a_server_that_stops_waits_for_no_trial(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is at work is killed, and whoever waits for it closes it; what is idle ends as well, and nothing is kept."""
    busy, idle = Program(FINE, FINE), Program(FINE)
    prepare(busy, idle)
    trials = Trials(2)
    ask = trials_module._ask

    def closing(process: Any, question: Question) -> Any:
        if not idle.ended:
            monkeypatch.setattr(trials_module, "_ask", ask)
            trials(MODEL)
            trials.close()
            assert (busy.ended, idle.ended) == (["kill"], ["kill", "wait"])
        return ask(process, question)

    monkeypatch.setattr(trials_module, "_ask", closing)
    trials(MODEL)
    assert busy.ended == ["kill", "kill", "wait"]
    assert trials._busy == set()
    with pytest.raises(AzureMLClassicError, match="is stopping"):
        trials(MODEL)
