"""Jobs on a cluster: what is refused here, the log that breaks, the exit code that comes back."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from apdist_verbs.submit import JobLog, exit_code, main, split_arguments


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ([], "nothing to run"),
        (["--"], "nothing to run"),
        (["--", "trian", "glyphs"], "did you mean 'train'"),
        (["--", "submit"], "unknown verb 'submit' after --"),
        (["--", "train", "glyphs", "--training.stepz", "5"], "mean '--training.steps'"),
        (["--ray.address", "head:6379", "--", "train"], "expected http://HEAD:8265"),
        (["--working-dir", "nowhere", "--", "train"], "nowhere is no folder"),
        (["--ray.address", "http://127.0.0.1:9", "--", "train"], "no Ray job server answers at"),
    ],
)
def test_a_job_that_cannot_be_submitted_is_refused_with_a_remedy(
    arguments: list[str], answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")  # the verb sets it
    with pytest.raises(ValueError, match=answer):
        main(arguments)


def test_only_the_first_two_dashes_part_the_arguments() -> None:
    argv = ["--working-dir", ".", "--", "search", "--", "-x.jpg"]
    assert split_arguments(argv) == (["--working-dir", "."], ["search", "--", "-x.jpg"])


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
