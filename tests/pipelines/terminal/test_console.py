"""Lines and tables that a person sees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from apdist_verbs.terminal.console import counted, said_beside_output, say, table, warn


def test_square_brackets_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold] a")
    warn("[red] b")
    table("found", ["name", "score"], [["[blue]", "0.5"]])
    shown = capsys.readouterr()
    assert "[bold] a" in shown.out
    assert "[blue]" in shown.out
    assert shown.err == "warning: [red] b\n"


def test_one_and_many_have_their_words() -> None:
    assert [counted(n, "class", "classes") for n in (0, 1, 2)] == [
        *("0 classes", "1 class", "2 classes")
    ]


def test_beside_output_for_a_program_lines_go_to_the_error_stream(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with said_beside_output():
        say("one")
    say("two")
    assert capsys.readouterr() == ("two\n", "one\n")


SHOWN = """
import os, sys
from apdist_verbs.terminal.console import say, table, warn
for number in range(20_000):
    say(f"line {number}")
table("found", ["name"], [["a"]])
with open(sys.argv[1], "w") as file:
    file.write("done")
warn("the end")
"""


def test_where_the_reader_leaves_the_work_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHOWN, str(tmp_path / "end")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"line 0\n"
        running.stdout.close()
        assert running.stderr.read() == b"warning: the end\n"
    assert running.returncode == 0
    assert (tmp_path / "end").read_text() == "done"


@pytest.mark.parametrize("width", ["0", "00", ""])
def test_a_width_of_0_is_none(width: str, tmp_path: Path) -> None:
    environment = {**os.environ, "COLUMNS": width}
    command = [sys.executable, "-c", SHOWN.replace("20_000", "1"), str(tmp_path / "end")]
    shown = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert shown.startswith(b"line 0\nfound\n")
