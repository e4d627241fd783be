"""The loop in which a driver listens: events of the mailbox to listeners, signals of a person."""

from collections.abc import Callable, Iterable

from apdist.training.cluster.background import Background
from apdist.training.mailbox import Posted

POLL_S = 0.1

Listener = Callable[[Posted], None]
"""Is handed every event, in order; it decides itself what is of interest to it."""


def watch(
    work: Background,
    take: Callable[[bool], list[Posted]],
    listeners: Iterable[Listener[Posted]],
    signals: list[int],
    on_signal: Callable[[int], None],
) -> None:
    """Hand on events and signals until ``work`` has ended and its last events are taken.

    Args:
        work: a started thread.
        take: the events since it was called last; with True surely all of them.
        listeners: each is called with each event, before the next event.
        signals: grows with each signal, see `counted_signals`.
        on_signal: called with 1 for the first signal, 2 for the second, and so on. What it raises,
            or a listener, ends the watch.
    """
    heard, finished = 0, False
    while not finished:
        while heard < len(signals):
            heard += 1
            on_signal(heard)
        finished = not work.is_running()  # before the last events are taken
        for event in take(finished):
            for listener in listeners:
                listener(event)
        work.wait(POLL_S)
