"""``apdist serve``: a page to search with pictures, and an API in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from apdist.data import storage
from apdist_verbs.terminal.console import counted, say
from apdist_verbs.terminal.fields import positional, repeated, shown_default
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.serving.guard import Access
    from apdist.serving.limits import Limits
    from apdist.serving.service import Service


@dataclass(frozen=True, kw_only=True)
class Options:
    """Serve an index: a page to search with pictures, and an API in JSON (docs/serving.md)."""

    source: Annotated[str, positional("RUN")] = ""
    """Folder of the run whose index is served, or of an index. Without it: the newest run under
    runs/."""
    index: Annotated[tuple[str, ...], repeated("`index` in the run's folder")] = ()
    """Folder of an index. Repeat it to search several together; RUN then is whose model
    describes."""
    host: str = "127.0.0.1"
    """Address to listen on. One that others reach, as 0.0.0.0, needs --token-file."""
    port: int = 8000
    """Port to listen on; 0: any that is free."""
    token_file: Annotated[str, shown_default("no token")] = ""
    """File with the token that requests have to carry."""
    allowed_host: Annotated[tuple[str, ...], repeated("none")] = ()
    """A further name by which the server is asked, as that of a proxy before it."""
    batch_size: int = 32
    """Most pictures that are described at once."""
    wait_ms: float = 4.0
    """Milliseconds that the first picture of a batch waits for others."""
    max_mb: float = 20.0
    """Megabytes of an uploaded picture; larger ones are refused."""
    max_pixels: int = 50_000_000
    """Pixels of an uploaded picture; it is decoded where it has no more."""
    max_searches: int = 256
    """Searches at once; one more is told to come again."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise ValueError(f"--port is a number from 0 to 65535, got {self.port}")
        for name in ("batch_size", "max_pixels", "max_searches"):
            if getattr(self, name) < 1:
                flag = f"--{name.replace('_', '-')}"
                raise ValueError(f"{flag} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.wait_ms <= 1000:
            raise ValueError(f"--wait-ms is a number from 0 to 1000, got {self.wait_ms:g}")
        if not 0.001 <= self.max_mb <= 1000:
            raise ValueError(f"--max-mb is a number from 0.001 to 1000, got {self.max_mb:g}")


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist serve")
    with phase("loading"):
        from apdist.serving.server import address_of, bound, serve

        access, limits = access_of(options), limits_of(options)
        places, run = places_of(options)
    with bound(options.host, options.port) as sock:
        service = service_of(places, run, limits, options)

        def started() -> None:
            say(f"{counted(len(service.current.snapshot), 'image')} at {address_of(sock)}")
            say("Ctrl-C stops it")

        from apdist.serving.app import application

        serve(application(service, access), sock, started)
    say("stopped")
    return 0


def access_of(options: Options) -> Access:
    """Who may ask.

    Raises:
        ValueError: others can reach the server, and there is no token; or the file holds none.
    """
    from apdist.serving.guard import Access, token_of

    token = ""
    if options.token_file:
        text = storage.read_bytes(options.token_file).decode("utf-8", "replace")
        token = token_of(text, options.token_file)
    return Access(host=options.host, token=token, hosts=options.allowed_host)


def limits_of(options: Options) -> Limits:
    """What a request may ask for.

    Raises:
        ValueError: more than is decoded anywhere.
    """
    from apdist.serving.limits import Limits

    most = Limits()
    num_bytes = int(options.max_mb * 1e6)
    return Limits(
        bytes=num_bytes,
        pixels=options.max_pixels,
        requests=options.max_searches,
        held_bytes=max(most.held_bytes, 4 * num_bytes),
    )


def places_of(options: Options) -> tuple[list[str], str]:
    """What is opened, and the run whose model describes; empty: the one that the index notes.

    Raises:
        ValueError: nothing is named, and there is no run.
    """
    if options.index:
        return list(options.index), options.source
    if options.source:
        return [options.source], ""
    from apdist_verbs.described import newest_run

    return [newest_run(storage.absolute("runs"))], ""


def service_of(places: list[str], run: str, limits: Limits, options: Options) -> Service:
    """The index and its model, loaded.

    Raises:
        ValueError: there is none, or they do not fit.
    """
    with phase("loading the index"):
        from apdist.serving.metrics import Metrics
        from apdist.serving.reload import Current
        from apdist.serving.service import Service

        metrics = Metrics()
        service = Service(
            current=Current(places, run=run, told=metrics.reloaded),
            limits=limits,
            metrics=metrics,
            batch_size=options.batch_size,
            wait_s=options.wait_ms / 1000,
        )
        service.searcher.warm_up(service.current.snapshot)
    return service
