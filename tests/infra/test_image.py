"""The image of every node: in step with the pins and with what the Makefile installs."""

import re
import shlex

from tests.infra.files import pinned
from tests.places import ROOT

TEXT = (ROOT / "infra" / "Dockerfile").read_text()
STAGES = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL))
EXTRAS = re.compile(r"\.\[(.+)\]")


def test_both_targets_have_the_pinned_ray_and_a_python_that_is_supported() -> None:
    bases = re.findall(
        r"^FROM rayproject/ray:([\d.]+)-py3(\d+)-(\w+) AS (\w+)$", TEXT, re.MULTILINE
    )
    assert [target for *_, target in bases] == ["cpu", "gpu"]
    for version, python, device, target in bases:
        assert version == pinned("ray")
        assert 10 <= int(python) <= 13
        assert device == target


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    ignore = (ROOT / "infra" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--)(.+)$", TEXT, re.MULTILINE)
    sources = [source for line in copied for source in line.split()[:-1]]
    assert {"apdist", "pipelines", "pyproject.toml", "infra/install.py"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
    assert {line[1:] for line in ignore if line.startswith("!")} == set(sources)


def installs(text: str) -> list[list[str]]:
    """The words of each call of our installer."""
    return [shlex.split(line) for line in re.findall(r"infra/install\.py.*", text)]


def test_the_image_installs_as_the_makefile_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (ours,) = installs(re.sub(r"^\s*#.*", "", makefile, flags=re.MULTILINE))
    tested = set(EXTRAS.findall(makefile)[-1].split(","))
    for target in ("cpu", "gpu"):
        (command,) = installs(STAGES[target])
        *same, package = command
        assert same == ours  # the same installer, the same constraints
        (extras,) = EXTRAS.findall(package)
        assert set(extras.split(",")) <= tested
    assert installs(STAGES["cpu"]) == installs(STAGES["gpu"])


def test_both_targets_run_as_nobody_special() -> None:
    for target in ("cpu", "gpu"):
        users = re.findall(r"^USER (.+)$", STAGES[target], re.MULTILINE)
        assert users == ["1000"]  # a number: Kubernetes checks `runAsNonRoot` by it
        assert STAGES[target].index("USER") < STAGES[target].index("RUN")
        assert "--chown=1000:100" in STAGES[target]


def test_only_the_target_without_cuda_asks_another_index() -> None:
    assert "download.pytorch.org/whl/cpu" in STAGES["cpu"]
    assert "index" not in STAGES["gpu"].lower()
