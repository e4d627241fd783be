"""Commands for a cluster: wrong options are found here, what lies there is not looked at."""

import shlex

import pytest

from apdist_verbs.start.command import check_command


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("trian glyphs", "unknown verb 'trian' after --; did you mean 'train'"),
        ("submit", "unknown verb 'submit'"),
        ("train glyph", "did you mean 'glyphs'"),
        ("train glyphs --training.stepz 5", "mean '--training.steps'"),
        ("train glyphs --loss.num-bins 1", "loss.num_bins must be at least 2"),
        ("train --config s3://b/x.toml --trainin.steps 5", "unknown option '--trainin.steps'"),
        ("train glyph --config there.toml", "did you mean 'glyphs'"),
        ("train --resume", "expected `apdist train --resume RUN"),
        ("train --resume s3://b/run --training.steps x", "must be an integer, got 'x'"),
        ("sweep glyphs", "--space SPACE.toml is missing"),
        ("sweep --config there.toml --trials x", "--trials must be an integer, got 'x'"),
        ("sweep --resume", "expected `apdist sweep --resume SWEEP"),
        ("sweep --resume s3://b/sweep --trials x", "--trials must be an integer, got 'x'"),
        ("sweep --resume s3://b/sweep --training.steps 9", "unknown option '--training.steps'"),
        ("index ad --images s3://b/x", "did you mean 'add'"),
        ("index add --kind flat", "unknown option '--kind'"),
        ("prepare foldr x", "did you mean 'folder'"),
        ("prepare folder x", "needs --out STR"),
        ("search x.jpg -k 0", "--k must be at least 1"),
    ],
)
def test_what_the_verb_would_refuse_is_refused(command: str, answer: str) -> None:
    with pytest.raises(ValueError, match=answer):
        check_command(shlex.split(command))


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "train glyphs pictures/there --max-side 300",
        "train folder --config there.toml --ray.num-workers=4",
        "train --resume s3://b/run --fork --training.steps 9",
        "sweep glyphs --space there/space.toml",
        "sweep --config there.toml --space there/space.toml",
        "sweep --resume s3://b/sweep --trials 40",
        "index --images s3://b/x --out s3://b/y",
        "index add --images s3://b/x --index s3://b/y --only-new",
        "prepare index s3://b/x --out s3://b/y",
        "extract --out s3://b/z",
        "demo",
    ],
)
def test_what_lies_on_the_cluster_is_not_looked_for_here(command: str) -> None:
    check_command(shlex.split(command))


def test_a_job_has_no_secret_in_its_command() -> None:
    words = ["train", "glyphs", "--data.shards", "https://h/x?sig=c4nary"]
    with pytest.raises(ValueError, match=r"https://h/x\?\.\.\. has a signature.*--config") as error:
        check_command(words)
    assert "c4nary" not in str(error.value)
