"""The index, read again when it has changed; searches under way end on the one they began with."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from apdist.data import storage
from apdist.retrieval.querying.open_index import OpenIndex
from apdist.retrieval.querying.opening import index_at, open_index
from apdist.retrieval.stored.folder import read_settings
from apdist.serving.snapshot import Snapshot

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
LOOK_EVERY_ELSEWHERE_S = 30.0
"""Where each look is a request to a server."""


class Current:
    """The index that is served now.

    Args:
        places: folder of a run or an index, or of several to search together.
        run: whose model describes; empty: the one that the index lies in, or notes.
        told: called after each time that it was read again, with whether that went well.

    Raises:
        ValueError: there is no such index or model, they do not fit, or are damaged.
    """

    def __init__(
        self,
        places: Sequence[str],
        *,
        run: str = "",
        told: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._places, self._run, self._told = list(places), run, told
        self._folders = [index_at(storage.absolute(place)) for place in places]
        self.snapshot = self._read()
        self.error = ""
        """Why the index as it is now is not the one that is served."""
        self._refused = ""
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def look(self) -> bool:
        """Read the index again if it has changed; whether it was."""
        version = ""
        try:
            version = self._version()
            if version != self.snapshot.version and version == self._refused:
                return False
            has_changed = version != self.snapshot.version
            if has_changed:
                self.snapshot = self._read()
        except Exception as error:  # whatever it is, the one before is served on
            if str(error) != self.error:
                logger.warning("the index before is served on: %s", error)
            # What a server did not give is asked for again; files of the wrong kind stay so.
            self._refused = version if isinstance(error, ValueError) else ""
            self.error = str(error)
            self._told(False)
            return False
        self.error = ""
        if has_changed:
            self._told(True)
        return has_changed

    def watch(self) -> None:
        """Look now and then, until `stop`."""
        is_here = all(storage.local_path(folder) is not None for folder in self._folders)
        every_s = LOOK_EVERY_S if is_here else LOOK_EVERY_ELSEWHERE_S

        def run() -> None:
            while not self._is_over.wait(every_s):
                self.look()

        self._thread = threading.Thread(target=run, name="index", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking for newer indexes."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _version(self) -> str:
        """Names the state of the index by what its pointers name."""
        names = [str(read_settings(folder)["generation"]) for folder in self._folders]
        return "+".join(name.removeprefix("generation-") for name in names)

    def _read(self) -> Snapshot:
        while True:
            version = self._version()
            opened: OpenIndex = open_index(self._places, run=self._run)
            if version == self._version():  # else it was replaced meanwhile
                return Snapshot(opened, version)
