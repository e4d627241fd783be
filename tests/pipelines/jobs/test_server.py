"""The log that breaks, the exit code that comes back."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from apdist_verbs.jobs.server import JobLog, exit_code, follow
from apdist_verbs.terminal.ending import UnreadError


class Client:
    """Ray's: sends the log from its beginning, and breaks after some of it."""

    def __init__(self, *tries: list[str]) -> None:
        self.tries = list(tries)

    async def tail_job_logs(self, _job: str) -> AsyncIterator[str]:
        for text in self.tries.pop(0):
            yield text
        if self.tries:
            raise ConnectionError("the tunnel broke")


def test_of_a_log_that_breaks_nothing_is_printed_twice(capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = Client(["ab", "cd"], ["a"], ["abcde", "f"])
    log = JobLog(client, "job")
    for _ in range(2):
        with pytest.raises(ConnectionError):
            asyncio.run(log.show())
    asyncio.run(log.show())
    assert capsys.readouterr().out == "abcdef"


def test_a_log_that_nobody_reads_ends_and_is_not_taken_for_a_broken_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def left(_text: str) -> None:
        raise BrokenPipeError

    client: Any = Client(["ab"], ["cd"])
    monkeypatch.setattr("sys.stdout", SimpleNamespace(write=left))
    with pytest.raises(UnreadError):
        follow(client, "job")


@pytest.mark.parametrize(
    ("status", "code", "expected", "said"),
    [
        ("SUCCEEDED", 0, 0, ""),
        ("FAILED", 2, 2, "failed with exit code 2"),
        ("FAILED", -9, 137, "failed with exit code -9"),
        ("STOPPED", None, 1, "job 7 stopped: by a person"),
    ],
)
def test_the_exit_code_is_that_of_the_job(
    status: str, code: int | None, expected: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    info = SimpleNamespace(status=status, driver_exit_code=code, message="by a\nperson")
    client: Any = SimpleNamespace(get_job_info=lambda _job: info)
    assert exit_code(client, "7") == expected
    assert said in capsys.readouterr().out
