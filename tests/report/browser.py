"""A page in a headless Chromium, driven through its pipe: no driver, no port, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-pipe",
    "--no-first-run",
)


class Browser:
    """One page; commands of the DevTools protocol, each answered before the next."""

    def __init__(self, to_it: int, from_it: int) -> None:
        self.to_it, self.from_it = to_it, from_it
        self.left, self.session, self.last = b"", "", 0
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.last += 1
        message: dict[str, Any] = {"id": self.last, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_it, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.last:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.left:
            part = os.read(self.from_it, 1 << 16)
            assert part, "the browser has ended"
            self.left += part
        message, _, self.left = self.left.partition(b"\0")
        return json.loads(message)

    def wait_for(self, method: str) -> dict[str, Any]:
        while True:
            found = next((e for e in self.events if e.get("method") == method), None)
            if found:
                self.events.remove(found)
                return found["params"]
            self.events.append(self._read())

    def open(self, page: Path | str) -> None:
        """A file, or an address."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self.wait_for("Page.loadEventFired")

    def ask(self, script: str) -> Any:
        """The value of an expression in the page, after all it has begun."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait, in the page, for a condition; what the page says instead is told."""
        found = self.ask(
            f"""new Promise((done) => {{
              const look = () => ({condition}) ? done(true) : setTimeout(look, 10);
              setTimeout(() => done(document.body.innerText), 15000);
              look();
            }})"""
        )
        assert found is True, f"{condition}: {found}"

    def press(self, key: str) -> None:
        """A key, as a person presses it."""
        about = {"key": key, "code": key if len(key) > 1 else f"Key{key.upper()}"}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        about |= {"text": text} if text else {}
        codes = {"Escape": 27, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9}
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                windowsVirtualKeyCode=codes.get(key, ord(key.upper()[0])),
                **about,
            )

    def mouse(self, kind: str, x: float, y: float) -> None:
        pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)


@contextmanager
def browser() -> Iterator[Browser]:
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()

    def as_three_and_four() -> None:
        os.dup2(to_read, 13), os.dup2(back_write, 14)
        os.dup2(13, 3), os.dup2(14, 4)

    # Its helpers may still write when it has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=as_three_and_four,
            close_fds=False,
        )
        os.close(to_read)
        os.close(back_write)
        try:
            found = Browser(to_write, back_read)
            yield found
            found.session = ""
            found.send("Browser.close")
            process.wait(timeout=20)
        finally:
            process.kill()
            process.wait()
            os.close(to_write)
            os.close(back_read)
