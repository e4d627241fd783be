"""`apdist serve` from its start to a signal, and what it refuses before it loads anything."""

import os
import queue
import re
import shlex
import signal
import socket
import threading
import urllib.request
from pathlib import Path

import pytest

from apdist.serving.server import bound
from apdist_verbs import serve
from apdist_verbs.__main__ import main
from apdist_verbs.terminal.options import check
from tests.places import ROOT
from tests.retrieval.querying.conftest import Indexed, indexed

__all__ = ["indexed"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_answers_and_ends_with_a_signal(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch, kind: signal.Signals
) -> None:
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(serve, "say", said.put)
    answers: list[bytes] = []

    def ask_and_stop() -> None:
        try:
            address = said.get(timeout=60).rpartition(" ")[2]
            with urllib.request.urlopen(f"{address}health", timeout=60) as answer:
                answers.append(answer.read())
        finally:
            os.kill(os.getpid(), kind)

    thread = threading.Thread(target=ask_and_stop)
    thread.start()
    assert main(["serve", indexed.run, "--port", "0"]) == 0
    thread.join()
    assert b'"ready"' in answers[0]
    assert [said.get_nowait() for _ in range(2)] == ["Ctrl-C stops it", "stopped"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0, which needs a token: --token-file FILE"),
        (["--port", "70000"], "--port is a number from 0 to 65535, got 70000"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--max-mb", "0"], "--max-mb is a number from 0.001"),
        (["--wait-ms", "-1"], "--wait-ms is a number from 0 to 1000"),
        (["--max-pixels", "999999999"], "limits.pixels must be at most"),
        (["--token-file", "gone"], "gone"),
        (["--token-file", "short.token"], "short.token holds no token"),
        (["no such run", "--port", "0"], "no such run is no index and no run"),
        (["--port", "0"], "no run under"),
        (["--prot", "1"], "did you mean '--port'"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.token").write_text("secret\n")
    assert main(["serve", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert "secret" not in error


def test_a_port_in_use_is_told_before_a_model_is_loaded(
    indexed: Indexed, capsys: pytest.CaptureFixture[str]
) -> None:
    with bound("127.0.0.1", 0) as sock:
        port = str(sock.getsockname()[1])
        assert main(["serve", indexed.run, "--port", port]) == 2
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err
    with socket.socket() as free:
        free.bind(("127.0.0.1", int(port)))


def test_a_run_an_index_or_several_are_named(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def places(source: str = "", *index: str) -> tuple[list[str], str]:
        return serve.places_of(serve.Options(source=source, index=index))

    assert places("a") == (["a"], "")
    assert places("", "i", "j") == (["i", "j"], "")
    assert places("run", "i") == (["i"], "run")
    monkeypatch.chdir(indexed.root)
    assert places() == ([indexed.run], "")


def test_commands_of_the_manual_are_understood() -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    commands = [
        shlex.split(line, comments=True) for line in re.findall("^apdist serve.*", text, re.M)
    ]
    assert len(commands) == 5
    for _, _, *words in commands:
        check(serve.Options, words, "apdist serve")
