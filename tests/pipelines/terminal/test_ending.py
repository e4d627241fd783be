"""How the process of a command ends: with its exit code, whatever is still going on in it."""

import errno
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apdist_verbs.terminal.ending import exit_code_of, fail
from tests.pictures import SIDE

BUSY = """
import threading, time, torch
from apdist_verbs.terminal.ending import end_with

def compute():
    weights = torch.ones(8, requires_grad=True)
    while True:
        (weights * weights.exp()).sum().backward()

def work():
    for _ in range(4):
        threading.Thread(target=compute, daemon=True).start()
    time.sleep(0.2)
    return 2

end_with(work)
"""


def ended(program: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a Python program."""
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    return answer.returncode, answer.stdout, answer.stderr


def test_threads_that_compute_do_not_change_the_exit_code() -> None:
    assert ended(BUSY) == (2, "", "")


@pytest.mark.parametrize(
    ("work", "code", "told"),
    [
        ("return 0", 0, ""),
        ("return 130", 130, ""),
        ("sys.exit(2)", 2, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('words')", 1, "words"),
        ("raise KeyError('our own bug')", 1, "KeyError: 'our own bug'"),
    ],
)
def test_what_was_written_and_registered_comes_before_the_end(
    work: str, code: int, told: str
) -> None:
    program = f"""
import atexit, sys
from apdist_verbs.terminal.ending import end_with

def work():
    atexit.register(lambda: print("closed"))
    sys.stdout.write("half a line, ")
    {work}

end_with(work)
"""
    found, out, err = ended(program)
    assert (found, out) == (code, "half a line, closed\n")
    assert err.strip().splitlines()[-1:] == ([told] if told else [])


@pytest.mark.parametrize("code", [0, 1, 15])
def test_an_exit_of_a_library_is_a_stop_with_a_word(
    code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        sys.exit(code)

    assert exit_code_of(work) == 130
    assert capsys.readouterr().err == "apdist: stopped\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_output_that_cannot_be_written_is_a_failure() -> None:
    program = """
import sys
from apdist_verbs.terminal.ending import end_with
sys.stdout = open("/dev/full", "w")
end_with(lambda: sys.stdout.write("lost") and 0)
"""
    assert ended(program)[0] == 1


def test_a_run_whose_folder_is_removed_ends_in_one_line(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "removed"
    options = ["--data.shards", str(shards), "--data.image-size", str(SIDE)]
    options += ["--data.group-size", "4", "--training.batch-size", "32", "--data.eval-split", ""]
    options += ["--training.steps", "100000", "--checkpoint.every-steps", "100000"]
    options += ["--ray.num-workers", "0", "--tracking.no-enabled", "--run.name", run.name]
    command = [sys.executable, "-m", "apdist_verbs", "train", "glyphs", *options]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (run / "metrics.jsonl").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        shutil.rmtree(run)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    # Whoever looks first: the driver at the next step, or the renewal of its lease.
    assert err in (
        f"apdist: {run}/metrics.jsonl cannot be written (No such file or directory); make room "
        "there, or choose another folder that you may write to\n",
        f"apdist: {run} was removed while it was trained; nothing is left of it\n",
    )


def test_a_message_never_prints_more_than_a_few_hundred_characters_of_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fail(f"--k must be an integer, got '{'9' * 10_000}'; give one", 2) == 2
    said = capsys.readouterr().err
    assert len(said) < 400
    assert said.startswith("apdist: --k must be an integer, got '999")
    assert said.endswith("; give one\n")
    fail(f"read {'a b ' * 10_000}; mend it", 2)
    assert len(capsys.readouterr().err) < 1300


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("https:/u:geheim@h/x?sig=geheim is no folder", "https:/...@h/x?... is no folder"),
        ("'HTTPS://u:ge@heim@h/x?sig=geheim': no", "'HTTPS://...@h/x?...': no"),
        ("postgresql+pg2://u:geheim@h/db refused", "postgresql+pg2://...@h/db refused"),
        ("(https://h/x?sig=geheim); check", "(https://h/x?...); check"),
        ("https://h/x?...: listing fails", "https://h/x?...: listing fails"),
        ("s3://bucket/a@b?c d", "s3://bucket/a@b?c d"),
        ("a/b@c.jpg: why? e.g. C:/me@x", "a/b@c.jpg: why? e.g. C:/me@x"),
    ],
)
def test_passwords_and_queries_of_addresses_are_not_said(
    capsys: pytest.CaptureFixture[str], said: str, shown: str
) -> None:
    fail(said, 2)
    assert capsys.readouterr().err == f"apdist: {shown}\n"


def test_a_name_that_the_console_cannot_show_ends_no_command() -> None:
    program = """
from apdist_verbs.terminal.ending import exit_code_of
exit_code_of(lambda: print("h\\u00e9 \\u65e5 \\udce9.jpg") or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("h\\xe9 \\u65e5 \\udce9.jpg\n", "")


CLOSED = """
import os, sys
from apdist_verbs.terminal.ending import end_with

def work():
    lines = [f"{n} {os.fstat(n).st_rdev == os.stat(os.devnull).st_rdev}" for n in range(3)]
    with open(sys.argv[1], "w") as file:
        file.write(f"{file.fileno() > 2} {lines}")
    print("for nobody")
    print("for nobody", file=sys.stderr)
    return os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "echo for nobody && echo for nobody >&2")

end_with(work)
"""


def test_a_process_that_was_started_without_output_writes_to_nowhere(tmp_path: Path) -> None:
    script, target = tmp_path / "script.py", tmp_path / "target"
    script.write_text(CLOSED)
    words = [sys.executable, str(script), str(target)]
    command = f"exec {shlex.join(words)} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=60, check=False).returncode == 0
    assert target.read_text() == "True ['0 True', '1 True', '2 True']"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
@pytest.mark.parametrize("write", ["print('lost')", "print('lost', flush=True)"])
def test_output_on_a_full_disk_is_told_with_a_remedy(write: str) -> None:
    program = f"""
import os, sys
from apdist_verbs.terminal.ending import end_with, exit_code_of
sys.stdout = open("/dev/full", "w")  # with a buffer, whatever the environment says
end_with(lambda: exit_code_of(lambda: {write} or 0))
"""
    code, _, err = ended(program)
    assert code == (2 if "flush" in write else 1)
    told = (
        "apdist: the output(, or a temporary file,)? cannot be written .no space left on device.;"
    )
    assert re.match(f"{told} make room", err)
    assert err.count("\n") == 1


def test_a_full_disk_without_a_name_is_told_with_a_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work() -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert exit_code_of(work) == 2
    assert "the output, or a temporary file, cannot be written" in capsys.readouterr().err


def test_what_matplotlib_says_of_its_cache_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> int:
        logging.getLogger("matplotlib").warning("a temporary cache directory")
        return 0

    assert exit_code_of(work) == 0
    assert not caplog.records
