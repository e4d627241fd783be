"""A TCP proxy before an HTTP server that does to the traffic what networks do, on purpose.

It runs in a thread. For each request a plan names a fault, or none; the proxy counts the faults
that it did, by kind.
"""

import asyncio
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

REQUEST = re.compile(rb"(?:GET|PUT|POST|HEAD|DELETE) (\S+) HTTP/1\.1\r\n")
CHUNK_BYTES = 32 << 10
START_TIMEOUT_S = 10


@dataclass(frozen=True)
class Fault:
    """What happens to one answer.

    Kinds: `cut` and `reset` end the connection after ``after`` bytes of the answer, by FIN or RST;
    `stall` sends nothing more for ``seconds``, `trickle` a byte each ``seconds``, `falter` nine
    such bytes and then nothing; `truncate` announces and sends a body of ``after`` bytes; `delay`
    passes the request on after ``seconds``; `status` answers with ``status`` and S3's error
    ``code`` instead of the server.
    """

    kind: str
    after: int = 0
    seconds: float = 0.0
    status: int = 503
    code: str = "SlowDown"


Plan = Callable[[int], Fault | None]
"""The fault for the request of this number; requests count from 0."""


def always(fault: Fault) -> Plan:
    """The same fault for each request."""
    return lambda number: fault


def first(*faults: Fault) -> Plan:
    """These faults for the first requests, then none."""
    return lambda number: faults[number] if number < len(faults) else None


def seeded(seed: int, share: float, *, answer_bytes: int, stall_s: float = 30.0) -> Plan:
    """A random fault for a share of the requests; the same ones for the same seed."""

    def plan(number: int) -> Fault | None:
        draw = random.Random(f"{seed} {number}")
        if draw.random() >= share:
            return None
        kind = draw.choice(["cut", "reset", "stall", "truncate", "delay", "status", "cut", "reset"])
        seconds = 0.02 if kind == "delay" else stall_s
        status = draw.choice([500, 503])
        code = {500: "InternalError", 503: "SlowDown"}[status]
        after = draw.randrange(answer_bytes) if draw.random() < 0.7 else 0
        return Fault(kind, after, seconds, status, code)

    return plan


@dataclass
class FaultyProxy:
    """A proxy that runs; ``plan`` may be replaced at any time."""

    target_port: int
    plan: Plan = lambda number: None
    faults_of: dict[str, Fault] = field(default_factory=dict)
    """Of each request for a path that ends so, instead of the plan's."""
    port: int = 0
    num_requests: int = 0
    num_faults: Counter[str] = field(default_factory=Counter)
    num_of_each: Counter[Fault] = field(default_factory=Counter)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _server: socket.socket | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def begin(self, plan: Plan) -> None:
        """Follow ``plan`` from its first request on, and count from 0."""
        self.plan, self.faults_of, self.num_requests = plan, {}, 0
        self.num_faults, self.num_of_each = Counter(), Counter()

    def fault_of(self, path: str, number: int) -> Fault | None:
        """What happens to the request of this number for ``path``."""
        named = (fault for end, fault in self.faults_of.items() if path.endswith(end))
        return next(named, self.plan(number))

    def refuse(self) -> None:
        """Refuse connections from now on, and end those there are."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(START_TIMEOUT_S)

    def listen(self) -> None:
        """Take connections (again, at the same port)."""
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(START_TIMEOUT_S)

    async def _open(self) -> None:
        # Not asyncio's own server: a connection that it accepts while it closes is never closed.
        self._server = socket.create_server(("127.0.0.1", self.port), backlog=100)
        self._server.setblocking(False)
        self.port = self._server.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._server, self._accept, self._server)

    async def _close(self) -> None:
        if self._server is not None:
            asyncio.get_running_loop().remove_reader(self._server)
            self._server.close()
            self._server = None
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, server: socket.socket) -> None:
        # Without an await between: whatever is accepted has a task at once.
        try:
            client, _ = server.accept()
        except OSError:
            return  # the client has left already
        client.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._serve(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Also where the task is cancelled before it begins.
        task.add_done_callback(lambda _, client=client: client.close())

    async def _serve(self, client: socket.socket) -> None:
        """One connection of a client."""
        writer = upstream = None
        try:
            reader, writer = await asyncio.open_connection(sock=client)
            back, upstream = await asyncio.open_connection("127.0.0.1", self.target_port)
            exchange = Exchange(self, writer)
            tasks = [
                asyncio.create_task(exchange.pass_requests(reader, upstream)),
                asyncio.create_task(exchange.pass_answers(back)),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the server is down, or the proxy ends: so does the connection
        finally:
            for end in (writer, upstream):
                if end is not None:
                    end.close()
                    with suppress(OSError, asyncio.CancelledError):
                        await end.wait_closed()


@dataclass
class Exchange:
    """The requests and answers of one connection."""

    proxy: FaultyProxy
    client: asyncio.StreamWriter
    fault: Fault | None = None
    num_sent: int = 0

    async def pass_requests(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        """Until the client closes, or a request is answered here."""
        while data := await reader.read(CHUNK_BYTES):
            if request := REQUEST.match(data):
                number, self.proxy.num_requests = (
                    self.proxy.num_requests,
                    self.proxy.num_requests + 1,
                )
                path = request[1].decode()
                self.fault, self.num_sent = self.proxy.fault_of(path, number), 0
                if self.fault and self.fault.kind == "status":
                    await self._answer(self.fault)
                    return
                if self.fault and self.fault.kind == "delay":
                    self._did(self.fault)
                    await asyncio.sleep(self.fault.seconds)
            server.write(data)
            await server.drain()

    async def pass_answers(self, server: asyncio.StreamReader) -> None:
        """Until the server closes, or a fault ends the connection."""
        while data := await server.read(CHUNK_BYTES):
            fault = self.fault
            if fault and fault.kind == "truncate" and self.num_sent == 0:
                data, fault = shortened(data, fault)
                self.fault = fault
            if fault and fault.kind in FATAL and self.num_sent + len(data) > fault.after:
                await self._send(data[: max(0, fault.after - self.num_sent)])
                self._did(fault)
                await self._end(fault, data)
                return
            await self._send(data)

    async def _send(self, data: bytes) -> None:
        self.num_sent += len(data)
        self.client.write(data)
        await self.client.drain()

    async def _end(self, fault: Fault, data: bytes) -> None:
        if fault.kind == "reset":
            raw = self.client.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.client.transport.abort()
        elif fault.kind == "stall":
            await asyncio.sleep(fault.seconds)
        elif fault.kind in ("trickle", "falter"):
            for byte in data[fault.after :][: 9 if fault.kind == "falter" else None]:
                await self._send(bytes([byte]))
                await asyncio.sleep(fault.seconds)
            await asyncio.sleep(30)

    async def _answer(self, fault: Fault) -> None:
        body = f"<Error><Code>{fault.code}</Code><Message>.</Message></Error>" if fault.code else ""
        self._did(fault)
        await self._send(
            f"HTTP/1.1 {fault.status} Fault\r\nContent-Type: application/xml\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )

    def _did(self, fault: Fault) -> None:
        self.proxy.num_faults[fault.kind] += 1
        self.proxy.num_of_each[fault] += 1


FATAL = ("cut", "reset", "stall", "trickle", "falter", "truncate")


def shortened(data: bytes, fault: Fault) -> tuple[bytes, Fault | None]:
    """The beginning of an answer that announces ``after`` bytes, and the fault to end it there."""
    head, blank, body = data.partition(b"\r\n\r\n")
    announced = re.search(rb"Content-Length: (\d+)", head, re.IGNORECASE)
    if not announced or int(announced[1]) <= fault.after or b" 206 " not in head[:16]:
        return data, None
    head = head.replace(announced[0], b"Content-Length: %d" % fault.after)
    data = head + blank + body
    return data, Fault("truncate", len(head) + len(blank) + fault.after)


@contextmanager
def faulty_proxy(target: str) -> Iterator[FaultyProxy]:
    """A proxy before the server at ``target`` (``http://127.0.0.1:PORT``), without faults yet."""
    proxy = FaultyProxy(int(target.rpartition(":")[2]))
    thread = threading.Thread(target=proxy._loop.run_forever, name="faulty proxy")
    thread.start()
    try:
        proxy.listen()
        yield proxy
    finally:
        proxy.refuse()
        proxy._loop.call_soon_threadsafe(proxy._loop.stop)
        thread.join(START_TIMEOUT_S)
        proxy._loop.close()


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Return when ``condition`` holds; fail if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)
