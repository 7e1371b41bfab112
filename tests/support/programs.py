"""Programs without a service: each verb that one yields is answered from a script, and noted with all it was given."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from airflow_provider_azureml_classic.client.retries import Pause, Program

T = TypeVar("T")


class Script:
    """Answers verbs by name.

    :param answers: by name of the verb, one for each call, the last one again and again; an error is raised, and a
        function is called with what the verb was given.
    """

    def __init__(self, **answers: Sequence[Any]) -> None:
        self._answers = {name: list(values) for name, values in answers.items()}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.pauses: list[float] = []

    def perform(self, program: Program[T]) -> T:
        """Run a program to its end."""
        answer: Any = None
        try:
            while True:
                command: Any = program.throw(answer) if isinstance(answer, Exception) else program.send(answer)
                answer = self._answer(command)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _answer(self, command: Any) -> Any:
        if isinstance(command, Pause):
            self.pauses.append(command.seconds)
            return None
        if isinstance(command, Coroutine):
            with pytest.raises(StopIteration):
                command.send(None)
            return None
        name = command.gi_code.co_name
        assert command.gi_frame.f_locals["self"] is not None, f"{name} is called without a client"
        given = {key: value for key, value in command.gi_frame.f_locals.items() if key != "self"}
        self.calls.append((name, given))
        answers = self._answers[name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer(**given) if isinstance(answer, Callable) and not isinstance(answer, Exception) else answer  # type: ignore[arg-type]
