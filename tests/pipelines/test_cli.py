"""The command as a person uses it: bad input gets one line and exit code 2, never a traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from apdist.config import flatten
from apdist_verbs.__main__ import VERBS, main
from tests.pictures import encoded, picture, write_folder, write_small_set

FEW = ["--ray.num-workers", "0", "--tracking.no-enabled"]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    try:
        code = main(arguments)
    except SystemExit as error:  # a help ends the process itself
        code = int(error.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The error of a command that must be refused."""
    code, out, err = run(arguments, capsys)
    assert code == 2, (code, out, err)
    assert "Traceback" not in err
    *warnings, last = err.splitlines()
    assert last.startswith("apdist: ")
    assert all(line.startswith("warning: ") for line in warnings), err
    return last


def test_help_names_every_verb_and_that_of_each_needs_no_heavy_import() -> None:
    commands = [["--help"], ["train", "glyphs", "--help"], ["sweep", "glyphs", "--help"]]
    commands += [[verb, "--help"] for verb in VERBS if verb not in ("train", "sweep")]
    # One after the other, the lightest first: what one has imported, it is told of.
    code = f"""
import sys
from apdist_verbs.__main__ import main
for command in {commands!r}:
    try:
        main(command)
    except SystemExit:
        pass
    heavy = ["torch", "ray", "mlflow"] + ["rich"] * (len(command) == 1)
    print("heavy", command, [name for name in heavy if name in sys.modules])
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    told = re.findall(r"^heavy (.+) (\[.*?\])$", answer, re.MULTILINE)
    assert told == [(str(command), "[]") for command in commands]
    assert all(verb in answer.partition("heavy")[0] for verb in VERBS)


def test_the_options_of_train_are_those_of_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    from apdist.config import Config

    _, out, _ = run(["train", "glyphs", "--help-all"], capsys)
    for name in flatten(Config()):
        assert f"--{name.replace('_', '-')}" in out


def test_a_locale_that_names_files_otherwise_than_the_libraries_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    said = refused(["prepare", "folder", "pictures", "--out", "shards"], capsys)
    assert "read as iso8859-1 in this locale, and apdist needs UTF-8; set PYTHONUTF8=1" in said
    assert run(["--version"], capsys)[0] == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(["--version"], capsys)
    assert re.fullmatch(r"apdist \d+\.\d+\.\d+\n", out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "glyph"], "did you mean 'glyphs'"),
        (["train", "glyphs", "--training.stepz", "5"], "did you mean '--training.steps'?"),
        (["train", "glyphs", "--training.stepz=5"], "(`apdist train glyphs --help-all` lists"),
        (["train", "glyphs", "--training.batch_sise", "5"], "did you mean '--training.batch-size'"),
        (["train", "glyphs", "--training.steps", "abc"], "steps must be an integer, got 'abc'"),
        (["train", "glyphs", "--training.steps"], "--training.steps needs a value"),
        (["train", "glyphs", "--training.learning-rate", "x"], "must be a number, got 'x'"),
        (["train", "glyphs", "--training.optimizer", "x"], "must be one of 'adamw', 'adam', 'sgd'"),
        (["train", "glyphs", "--training.rates", "backbone"], 'as "backbone.*=0.1"; got'),
        (["train", "glyphs", "--training.freeze"], "--training.freeze needs a value"),
        (["train", "glyphs", "--training.milestones", "x"], "must be an integer, got 'x'"),
        (["train", "glyphs", "--lora.rank", "-1"], "lora.rank must be at least 0, got -1"),
        (["train", "glyphs", "--lr", "1"], "or '--training.learning-rate'?"),
        (["train", "glyphs", "--bs", "8"], "did you mean '--training.batch-size'"),
        (["train", "glyphs", "--images", "x"], "; IMAGES is given without a name before it"),
        (["train", "."], "a preset comes first: apdist train folder ."),
        (["train", "glyphs", "more", "most"], "unexpected argument: most"),
        (
            ["train", "glyphs", "--loss.margin", "0.2"],
            "apdist: loss.margin 0.2 is no option of ap,",
        ),
        (["sweep", "glyphs", "--loss.terms", "ap"], "apdist: loss.terms must be NAME=WEIGHT"),
        (["train", "glyphs", "--loss.num-bins", "1"], "apdist: loss.num_bins must be at least 2"),
        (["train", "glyphs", "--data.group-size", "900"], "900 exceeds training.batch_size 512"),
        (["train", "glyphs", "--ray.use-gpu", "on"], "must be one of 'auto', 'yes', 'no'"),
        (["train", "--resume", "nowhere"], "is no run"),
        (["train", "--resume"], "--resume RUN"),
        (["sweep", "glyphs"], "--space SPACE.toml is missing"),
        (["sweep", "glyphs", "--space", "x", "--scheduler", "pbt"], "is not offered"),
        (["sweep", "glyphs", "--space", "x", "--searcher", "bayes"], "one of random, grid, tpe"),
        (["sweep", "glyphs", "--space", "x", "--repeats", "0"], "--repeats must be at least 1"),
        (["sweep", "glyphs", "--space", "x", "--trials", "0"], "--trials must be at least 1, got"),
        (["sweep", "glyphs", "--space", "/tmp"], "--space /tmp cannot be read (is a directory); "),
        (["sweep", "glyphs", "--space", "x", "--objective", "mapp"], "did you mean 'map'"),
        (["sweep", "--resume", "nowhere"], "nowhere is no run"),
        (["sweep", "--resume"], "SWEEP a folder under runs/"),
        (["sweep", "glyphs", "--space", "x", "--trails", "3"], "did you mean '--trials'?"),
        (
            ["sweep", "glyphs", "--space", "x", "--ray.num-workers", "2-4"],
            "a fixed number of workers; use --ray.num-workers 2",
        ),
        (["train", "glyphs", "--ray.num-workers", "0-4"], "a range begins at 1 or more"),
        (["train", "glyphs", "--ray.num-workers", "4-2"], "comes first, as 2-4"),
        (["evaluate", "--rnu", "x"], "unknown option '--rnu'; did you mean '--run'?"),
        (["evaluate", "--run", "nowhere"], "is no run"),
        (["convert"], "`apdist convert` needs FILE and OUT"),
        (["convert", "no.pt", "x"], "no.pt"),
        (["convert", "a", "b", "--pooling", "netvlad"], "must be one of 'file', 'gem', 'max'"),
        (["convert", "a", "b", "--pixel-men", "0"], "did you mean '--pixel-mean'?"),
        (["whiten", "--run", "nowhere"], "is no run"),
        (["whiten", "--kind", "ica"], "--kind must be one of 'pca', 'supervised'"),
        (
            ["evaluate", "--protocol", "holiday"],
            "must be one of 'auto', 'labelled', 'query-gallery'",
        ),
        (["evaluate", "--json", "/dev/null/x.json"], "--json /dev/null: /dev/null is no folder"),
        (["evaluate", "--json", "/tmp"], "--json /tmp is a folder; give a file, as /tmp/figures.j"),
        (["evaluate", "--recall-at", "0"], "--recall-at must be whole numbers of at least 1"),
        (["evaluate", "--recall-at", "5", "1", "5"], "--recall-at names a number twice: 5 1 5; "),
        (["index", "--kind", "foo"], "--kind must be one of 'auto', 'exact'"),
        (["extract"], "`apdist extract` needs --out STR"),
        (["report", "--queries", "0"], "--queries must be at least 1, got 0"),
        (["submit", "--foo", "--", "train", "glyphs"], "unknown option '--foo'"),
        (["search"], "`apdist search` needs QUERY"),
        (["search", "a.jpg", "--k", "x"], "--k must be an integer, got 'x'"),
        (["evaluate"], "no run under"),
        (["search", "nothing.jpg"], "nothing.jpg does not exist"),
        (["search", "."], ". holds no picture; expected .jpg, .png or others"),
        (["search", "a.jpg", "--near-duplicates", "95"], "is a cosine, at most 1, got 95"),
        (["search", "a.jpg", "--csv", "-", "--json", "-"], "need different files"),
        (["search", "a.jpg", "--html", "."], "--html . is a folder; give a file, as ./found.html"),
        (
            ["prepare"],
            "folder|csv|parquet|glyphs|index|check|stats` or a published data set, got none",
        ),
        (["prepare", "foldr", "x"], "did you mean 'folder'?"),
        (["prepare", "folder"], "needs IMAGES and --out STR"),
        (["prepare", "folder", "x", "--out", "y", "--max-side", "-3"], "--max-side must be 0"),
        *(
            (["prepare", "folder", "x", "--out", "y", "--split-by-class", share], "lie in [0, 1]")
            for share in ("nan", "inf", "-1", "2")
        ),
        (["prepare", "folder", "nowhere", "--out", "x"], "nowhere is no folder"),
        (["prepare", "folder", ".", "--out", "./x"], "--out ./x lies in ."),
        (["prepare", "glyphs", "--out", "gs://b/x"], "gs:// is not known (in 'gs://b/x'); use s3"),
        (["prepare", "index", "s3://"], "'s3://' names no bucket"),
        (["prepare", "csv", ".", "--out", "x"], ". cannot be read (is a directory); give a .csv"),
        (["prepare", "parquet", ".", "--out", "x"], ". is a folder; give a .parquet file"),
        (["prepare", "parquet", "no", "--out", "x"], "no does not exist; give a .parquet file"),
        (["prepare", "parquet", "a", "./a", "--out", "x"], "TABLE a is named twice"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(arguments, capsys)
    assert not list(tmp_path.iterdir())


def test_a_catalogue_that_is_cut_short_is_refused_by_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_set(tmp_path / "shards")
    index = tmp_path / "shards" / "index.parquet"
    index.write_bytes(index.read_bytes()[:1000])
    monkeypatch.chdir(tmp_path)
    message = refused(["train", "glyphs", "--data.shards", "shards", *FEW], capsys)
    assert "index.parquet is no catalogue of apdist or is damaged; prepare it again" in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--training.freeze", "backbon.*"], "'backbon.*'; did you mean 'backbone.*'?"),
        (["--training.rates", "linear=2", "poolin=3"], "'poolin'; did you mean 'pooling."),
        (
            ["--lora.rank", "2", "--lora.targets", "*.query"],
            "lora.targets: no linear layer or convolution",
        ),
    ],
)
def test_a_pattern_that_names_nothing_is_refused_before_anything_starts(
    option: list[str],
    message: str,
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "glyphs", "--data.shards", str(shards), "--training.batch-size", "16"]
    assert message in refused([*command, "--tracking.no-enabled", *option], capsys)
    assert not (tmp_path / "runs").exists()


def test_more_workers_than_cpus_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_set(tmp_path / "shards")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    command = ["train", "glyphs", "--data.shards", "shards", "--training.batch-size", "16"]
    message = refused([*command, "--tracking.no-enabled", "--ray.num-workers", "999"], capsys)
    assert f"the cluster has room for {os.cpu_count()}: use fewer" in message
    assert not list((tmp_path / "runs").glob("*"))


def test_a_batch_that_cannot_be_filled_is_refused_before_a_run_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_set(tmp_path / "shards")
    monkeypatch.chdir(tmp_path)
    message = refused(["train", "glyphs", "--data.shards", "shards", *FEW], capsys)
    assert "use --training.batch-size 48 or less" in message
    assert not (tmp_path / "runs").exists()


def test_a_run_name_that_exists_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_set(tmp_path / "shards")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "file").touch()
    monkeypatch.chdir(tmp_path)
    command = ["train", "glyphs", "--data.shards", "shards", "--training.batch-size", "16", *FEW]
    assert "mine exists" in refused([*command, "--run.name", "mine"], capsys)


@pytest.mark.filterwarnings("ignore")
def test_from_pictures_to_search_in_five_verbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "meine Bilder"
    write_folder(here / "images", {f"Ä {i}": 6 for i in range(10)})
    monkeypatch.chdir(here)
    monkeypatch.setenv("COLUMNS", "400")
    steps = ["--training.batch-size", "16", "--training.chunk-size", "8", "--training.steps", "3"]
    size = ["--data.image-size", "24", "--model.dim", "8", "--run.name", "my run"]
    for command in (
        ["prepare", "folder", "images", "--out", "my shards"],
        ["train", "glyphs", "--data.shards", "my shards", *steps, *size, "--ray.num-workers", "0"],
        ["evaluate"],
    ):
        code, out, err = run(command, capsys)
        assert code == 0, (command, out, err)
    query = here / "my Query.JPG"
    query.write_bytes(encoded(picture(8, 2), "JPEG"))
    hint = refused(["search", str(query)], capsys)
    assert hint.endswith("build one with: apdist index --run 'runs/my run'")
    for command in (["index", "--kind", "exact"], ["report", "--gallery", "gallery.png"]):
        code, out, err = run(command, capsys)
        assert code == 0, (command, out, err)
    code, out, _ = run(["search", str(query), "--k", "3"], capsys)
    assert code == 0
    assert len(re.findall(r"Ä \d/\d\.png", out)) == 3
    page = (here / "runs" / "my run" / "report.html").read_text()
    assert "training.batch_size" in page
    assert "--run &#39;runs/my run&#39;" in page
    assert (here / "gallery.png").stat().st_size > 1000

    assert "holds an index already; replace it with --overwrite" in refused(["index"], capsys)
    below = ["index", "--kind", "exact", "--out", "gallery.png/below"]
    assert "cannot be written (not a directory); give another" in refused(below, capsys)
    (here / "text.jpg").write_text("no picture")
    assert "is no image" in refused(["search", "text.jpg", "--run", "runs/my run"], capsys)
    other = [*steps, *size[:-1], "other", "--ray.num-workers", "0", "--training.seed", "1"]
    assert run(["train", "glyphs", "--data.shards", "my shards", *other], capsys)[0] == 0
    mixed = ["search", str(query), "--run", "runs/other", "--index", "runs/my run/index"]
    assert "was built with model" in refused(mixed, capsys)
    (here / "runs" / "other" / "model.safetensors").write_bytes(b"broken")
    assert "is damaged or of another version" in refused(
        ["evaluate", "--run", "runs/other"], capsys
    )
