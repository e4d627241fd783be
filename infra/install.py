"""Install into the environment that runs this: what pip would, several times faster.

    python infra/install.py -c constraints.txt -e '.[dev]'

The work is done by uv, which is told where this machine's pip looks for packages. Where pip has a
setting that is not known here, or where uv fails, pip does it. Only the standard library is used.
"""

import ast
import compileall
import os
import subprocess
import sys
import sysconfig

# pip's settings that uv has, too, by its own names; of a list each entry is an option.
KNOWN = {
    "index-url": "--index-url",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "constraint": "--constraints",
    "no-index": "--no-index",
}
# Settings that do not change what is installed, or that are handed on as variables.
HARMLESS = {"cert", "default-timeout", "timeout", "retries", "disable-pip-version-check"}
HARMLESS |= {"no-cache-dir", "cache-dir", "progress-bar", "root-user-action", "no-input", "quiet"}
HARMLESS |= {"no-python-version-warning", "require-virtualenv"}


def main(arguments: list[str]) -> int:
    """Install; returns the exit code."""
    settings = settings_of_pip()
    options = None if settings is None else translated(settings)
    if options is not None and with_uv([*options, *arguments], settings.get("cert", "")):
        return 0
    # pip would compile in one process; some packages hold files for other Pythons.
    code = run(pip("install", "--quiet", "--no-compile", *arguments))
    compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2, workers=0)
    return code


def pip(*arguments: str) -> list[str]:
    """A command line of pip."""
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]


def run(command: list[str], **variables: str) -> int:
    """Run to the end; returns the exit code."""
    return subprocess.run(command, check=False, env=os.environ | variables).returncode


def settings_of_pip() -> "dict[str, str] | None":
    """What files and variables tell `pip install`, by name; None if it cannot be read."""
    listed = subprocess.run(pip("config", "list"), check=False, capture_output=True, text=True)
    return None if listed.returncode else parsed(listed.stdout)


def parsed(listed: str) -> "dict[str, str] | None":
    """The settings in the words of `pip config list`; sections as pip ranks them."""
    ranked = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in filter(str.strip, listed.splitlines()):
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section not in ranked:
            continue  # of another command
        try:
            text = str(ast.literal_eval(value))
        except (ValueError, SyntaxError):
            return None
        if ranked[section] >= found.get(key, (0, ""))[0]:
            found[key] = ranked[section], text
    return {key: text for key, (_, text) in found.items() if key != "config-file"}


def translated(settings: "dict[str, str]") -> "list[str] | None":
    """Options of uv that say the same; None if one of the settings is not known here."""
    if set(settings) - set(KNOWN) - HARMLESS:
        return None
    # As pip does, take the highest version of all places, not the first place that has any.
    options = ["--index-strategy", "unsafe-best-match"]
    for key, option in KNOWN.items():
        for value in settings.get(key, "").split():
            if key == "no-index":
                options += [option] if value.lower() in ("1", "true", "yes", "on") else []
            else:
                options += [option, value]
    return options


def with_uv(arguments: list[str], certificates: str) -> bool:
    """Whether uv could be had and has installed."""
    if run(pip("install", "-qqq", "-c", "constraints.txt", "uv")):
        return False
    trusted = {"SSL_CERT_FILE": certificates} if certificates else {}
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    return not run([*uv, "--compile-bytecode", *arguments], UV_LINK_MODE="copy", **trusted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
