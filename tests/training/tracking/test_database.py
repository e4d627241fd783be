"""A tracking database: several begin with it at once, and a kill leaves none half made."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from apdist.training.tracking.database import (
    make_database,
    patient,
    refuse_unusable,
    sqlite_path,
)

MAKE = """
import sys, time
from pathlib import Path
from apdist.training.tracking.database import make_database
def client(uri):
    part = Path(uri.removeprefix("sqlite:///"))
    with part.open("x") as file:  # a second one at the same time would fail
        for _ in range(20):
            file.write("table\\n")
            file.flush()
            time.sleep(0.01)
make_database(sys.argv[1], client)
print(Path(sys.argv[1].removeprefix("sqlite:///")).read_text().count("table"))
"""


def test_of_several_processes_one_makes_the_database_and_all_find_it_whole(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    command = [sys.executable, "-c", MAKE, uri]
    makers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [maker.communicate(timeout=60)[0] for maker in makers] == ["20\n"] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_database_that_cannot_be_made_whole_is_not_there(tmp_path: Path) -> None:
    def fails(uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_text("half")
        raise KeyError

    with pytest.raises(KeyError):
        make_database(f"sqlite:///{tmp_path}/mlflow.db", fails)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_maker_left_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".mlflow.db.part").write_text("half")
    (tmp_path / ".mlflow.db.lock").write_text("")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    make_database(uri, lambda part: Path(part.removeprefix("sqlite:///")).write_text("whole"))
    assert (tmp_path / "mlflow.db").read_text() == "whole"
    make_database(uri, lambda _: pytest.fail("it was there"))


def test_a_file_is_where_sqlalchemy_takes_it_to_be(tmp_path: Path) -> None:
    from sqlalchemy.engine import make_url

    folder = tmp_path / "a b%20#ü?"
    folder.mkdir()
    uri = f"sqlite:///{quote(str(folder))}/my%20flow.db"
    assert sqlite_path(uri) == folder / "my flow.db"
    make_database(uri, lambda part: Path(make_url(part).database or "").write_text("whole"))
    assert [path.name for path in folder.iterdir()] == ["my flow.db"]


@pytest.mark.parametrize("rest", ["a/m.db", "/a b/m#1.db", "m.db?timeout=3&x=a?b", "a+b", "?x", ""])
def test_an_address_without_escapes_is_read_as_sqlalchemy_reads_it(rest: str) -> None:
    from sqlalchemy.engine import make_url

    name = make_url(f"sqlite:///{rest}").database
    assert sqlite_path(f"sqlite:///{rest}") == (Path(name) if name else None)


def test_a_folder_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "50%20").mkdir()
    with pytest.raises(ValueError, match="50  is no folder; a % in an address is written %25"):
        make_database(f"sqlite:///{tmp_path}/50%20/m.db", lambda _: pytest.fail("too late"))
    with pytest.raises(ValueError, match="none is no folder$"):
        make_database(f"sqlite:///{tmp_path}/none/m.db", lambda _: pytest.fail("too late"))


@pytest.mark.parametrize("uri", ["http://host:5000", "sqlite:///:memory:", "sqlite://"])
def test_what_is_no_file_is_left_to_mlflow(uri: str) -> None:
    assert sqlite_path(uri) is None
    make_database(uri, lambda _: pytest.fail("there is nothing to make"))


def test_a_locked_database_is_asked_again_and_another_failure_is_not() -> None:
    answers = [OSError("(sqlite3.OperationalError) database is locked")]

    def work() -> str:
        if answers:
            raise answers.pop()
        return "done"

    assert patient(work) == "done"
    answers.append(OSError("no such table"))
    with pytest.raises(OSError, match="no such table"):
        patient(work)


def test_a_store_that_cannot_be_opened_is_refused_by_a_look_at_its_file(tmp_path: Path) -> None:
    refuse_unusable(f"sqlite:///{tmp_path}/new.db")
    refuse_unusable("http://127.0.0.1:1")
    (tmp_path / "notes.txt").write_text("nothing of the kind")
    (tmp_path / "empty.db").touch()
    refuse_unusable(f"sqlite:///{tmp_path}/empty.db")
    for name, reason in (("no/x.db", "/no is no folder"), ("notes.txt", "is no sqlite database")):
        with pytest.raises(ValueError, match=f"tracking.uri .*{reason}.*--tracking.no-enabled"):
            refuse_unusable(f"sqlite:///{tmp_path}/{name}")
