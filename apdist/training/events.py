"""What a training tells: one class for each kind of event, and events as JSON objects.

Workers post them, the driver shows, keeps and tracks them. A kind or a field that is not listed
here is refused where it is posted and where it is read. A new kind is a class here and a name in
`Event`; mypy then shows who has to decide what becomes of it (`unhandled`).
"""

import dataclasses
import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, get_args, get_origin

from apdist.figures import EVALUATION, GPU, MACHINE, STEP, TERM, figures_of_sets, logged_keys


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """An event whose fields are of their types and whose figures are known.

    Raises:
        ValueError: they are not.
    """

    kind: ClassVar[str]
    known: ClassVar[frozenset[str]] = frozenset()
    """Keys that ``figures`` may have."""
    families: ClassVar[tuple[str, ...]] = ()
    """How further keys may begin."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not _fits(value, field.type):
                raise ValueError(
                    f"{field.name} of the event {self.kind!r}: expected "
                    f"{inspect.formatannotation(field.type)}, got {value!r:.40}"
                )
        further = getattr(self, "figures", {}).keys() - self.known
        if unknown := [key for key in further if not key.startswith(self.families)]:
            raise ValueError(
                f"the event {self.kind!r} has no figure {min(unknown)!r}; known are: "
                f"{', '.join(sorted(self.known))}"
            )


@dataclass(frozen=True, kw_only=True)
class _StepEvent(_Checked):
    """An event that belongs to a step; the run folder's history keeps it."""

    step: int
    """Steps done by then."""
    time_ms: int = 0
    """When it happened, since 1970; set where it is posted."""


@dataclass(frozen=True, kw_only=True)
class PhaseBegan(_Checked):
    """Something else than steps goes on: told by its name, "evaluating step 60" for example."""

    kind = "phase"
    name: str
    """Empty where the steps go on."""
    time_ms: int
    """When, since 1970, by the clock that the steps have too."""


@dataclass(frozen=True, kw_only=True)
class Started(_Checked):
    """Workers are up, perhaps again after a failure."""

    kind = "start"
    step: int
    """Steps done before."""
    history: list[str]
    """Pages with the history up to that step, see `run_folder.pages`."""
    hosts: list[str]
    """Of the workers, in their order."""
    num_images: int
    num_classes: int
    num_lone_classes: int
    num_capped_classes: int
    steps_per_epoch: int
    chunk_size: int
    """Images that go through the network at once, and why so many where that was found."""
    chunk_size_reason: str
    activations: str
    """What stage 1 keeps, and why."""
    activations_reason: str
    gathered_once: bool
    """Whether sharded parameters are gathered once a stage, not for every chunk."""
    watched: str
    """The split that is measured as the training goes on; empty: none."""
    numerics: str = ""
    """How a GPU computes the network; nothing of a CPU."""


@dataclass(frozen=True, kw_only=True)
class ChunksResized(_Checked):
    """Another number of images goes through the network at once than `Started` told."""

    kind = "resized"
    chunk_size: int


@dataclass(frozen=True, kw_only=True)
class StepDone(_StepEvent):
    """The weights were moved."""

    kind = "step"
    known = logged_keys(STEP)
    families = (TERM,)
    figures: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Evaluated(_StepEvent):
    """A split was measured."""

    kind = "evaluation"
    known = logged_keys(EVALUATION)
    split: str
    figures: dict[str, float]
    seconds: float
    of_step: int = -1
    """Steps after which the network had the measured weights; -1: those done by then."""
    blend: float = 1.0
    """How far the weights lay on the way from the start to the trained ones."""
    weights: str = ""
    """Name of the file that keeps them, where they are chosen so far."""


@dataclass(frozen=True, kw_only=True)
class SetMeasured(_StepEvent):
    """One of ``evaluation.sets`` was measured."""

    kind = "set"
    known = frozenset(figures_of_sets())
    name: str
    protocol: str
    data: str
    """Hash of what is measured on: figures of one hash can be compared."""
    num_queries: int
    figures: dict[str, float]
    """The main one of each part comes first."""
    seconds: float
    of_step: int = -1
    """Steps after which the network had the measured weights; -1: those done by then."""
    blend: float = 1.0
    """How far the weights lay on the way from the start to the trained ones."""

    def is_of(self, other: "SetMeasured") -> bool:
        """Whether both are of one set, with the same images."""
        return (self.name, self.data) == (other.name, other.data)


@dataclass(frozen=True, kw_only=True)
class Similarities(_StepEvent):
    """How similar the pairs of a batch were: shares by bin."""

    kind = "similarities"
    centres: list[float]
    """Of the bins, best first."""
    positive: list[float]
    negative: list[float]


@dataclass(frozen=True, kw_only=True)
class Noticed(_StepEvent):
    """The training does not do what it is for: what is seen, and what to change."""

    kind = "notice"
    topic: str
    """A word for it: each is told once a run."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Restarted(_StepEvent):
    """The workers went on from a checkpoint, after a failure or because a person resumed."""

    kind = "restart"
    cause: str
    """What had happened, and to which worker on which host."""
    happened_ms: int
    """When, since 1970; no two have the same."""
    seconds_lost: float
    """From what the checkpoint holds to the new start."""
    restarts_left: int
    """Failures within the hour after which the run still goes on by itself."""
    num_workers: int
    num_before: int
    """Workers then; 0: not known."""

    def __str__(self) -> str:
        """What happened, in a line."""
        now, before = self.num_workers, self.num_before
        with_ = f" with {now} worker{'s' * (now > 1)} (was {before})" if 0 < before != now else ""
        return (
            f"{self.cause}; went on from step {self.step}{with_}, {self.seconds_lost:.0f} s lost, "
            f"{self.restarts_left} restart{'s' * (self.restarts_left != 1)} left within the hour"
        )


@dataclass(frozen=True, kw_only=True)
class WorkersFailed(_Checked):
    """Workers ended before the training did; Ray starts all of them again."""

    kind = "failure"
    ranks: list[int]
    """The workers that failed first, as far as is known."""
    cause: str
    time_ms: int
    hosts: list[str] = dataclasses.field(default_factory=list)
    """Of these workers; the mailbox knows them."""
    is_planned: bool = False
    """Nothing failed: a host is taken back with a notice, or there is room for more workers."""
    num_workers: int = 0
    """All that there were; the mailbox knows it. 0: not known."""

    @property
    def is_counted(self) -> bool:
        """Whether it uses up a restart; without ranks a person has stopped the run."""
        return bool(self.ranks) and not self.is_planned

    def __str__(self) -> str:
        """Who it was, and why."""
        if not self.ranks:
            return self.cause
        who = " and ".join(str(rank) for rank in self.ranks)
        where = f" on {' and '.join(dict.fromkeys(self.hosts))}" if self.hosts else ""
        return f"worker{'s' if self.ranks[1:] else ''} {who}{where}: {self.cause}"


@dataclass(frozen=True, kw_only=True)
class CheckpointWritten(_Checked):
    """A checkpoint is complete."""

    kind = "checkpoint"
    step: int
    uri: str


@dataclass(frozen=True, kw_only=True)
class Ended(_StepEvent):
    """The last step is done and the model saved."""

    kind = "end"
    model_id: str
    weights: str
    """Which the model has, and why, in words."""
    is_early: bool = False
    """Whether patience was at its end before the last step."""


@dataclass(frozen=True, kw_only=True)
class Warned(_Checked):
    """A worker warns."""

    kind = "warning"
    text: str


@dataclass(frozen=True, kw_only=True)
class Failed(_Checked):
    """Bad input, which would fail again on every attempt."""

    kind = "error"
    text: str


@dataclass(frozen=True, kw_only=True)
class Stopping(_Checked):
    """The first Ctrl-C: the workers are asked to stop."""

    kind = "stopping"


@dataclass(frozen=True, kw_only=True)
class MachineSampled(_Checked):
    """How busy the machine of a worker is; one worker of each machine tells."""

    kind = "machine"
    known = frozenset(MACHINE)
    families = (GPU,)
    host: str
    figures: dict[str, float]
    time_ms: int


@dataclass(frozen=True, kw_only=True)
class TrialStarted(_Checked):
    """A trial of a sweep begins, or is gone on with."""

    kind = "trial"
    params: dict[str, Any]
    """By dotted option name."""
    lease: int
    """Number of the lease that it holds of its run."""


@dataclass(frozen=True, kw_only=True)
class TrialEnded(_Checked):
    """The process of a trial gives it back: at its end, because it was asked to, or failed."""

    kind = "trial_end"
    attempt: str
    """Which it was, as Tune calls it."""
    failure: str
    """What went wrong, in a line; empty: nothing."""


Event = (
    PhaseBegan
    | Started
    | StepDone
    | Evaluated
    | SetMeasured
    | Similarities
    | ChunksResized
    | Noticed
    | Restarted
    | WorkersFailed
    | CheckpointWritten
    | Ended
    | Warned
    | Failed
    | Stopping
    | MachineSampled
    | TrialStarted
    | TrialEnded
)
KINDS: dict[str, type[Event]] = {event.kind: event for event in get_args(Event)}
"""Every kind, by its name in files."""


@dataclass(frozen=True, kw_only=True)
class FromTrial:
    """An event of one of the trials that share the mailbox of a sweep."""

    trial: str
    event: Event
    placement_group: Any = None
    """What the trial's workers will occupy; told before they start."""


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def refuse_unlisted(posted: object) -> None:
    """Check what goes into a mailbox.

    Raises:
        TypeError: it is no event.
    """
    event = posted.event if isinstance(posted, FromTrial) else posted
    if type(event) not in KINDS.values():
        raise TypeError(f"expected an event of apdist.training.events, got {event!r}")


def unhandled(event: NoReturn) -> NoReturn:
    """The last case of a `match` that decides about every kind; mypy sees whether it does."""
    raise AssertionError(f"nobody has decided what becomes of {event!r}")


def to_json(event: Event) -> dict[str, Any]:
    """A plain object: the kind, the fields, and each figure by its key."""
    plain: dict[str, Any] = {"kind": event.kind}
    for name, value in vars(event).items():
        plain |= value if name == "figures" else {name: value}
    return plain


def from_json(plain: Mapping[str, Any]) -> Event:
    """The event that `to_json` made ``plain`` of.

    Raises:
        ValueError: kind or fields are not known here, or not of their types.
    """
    kind = plain.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"expected an event of kind {', '.join(KINDS)}; got {str(plain)[:40]!r}")
    names = {field.name for field in dataclasses.fields(KINDS[kind])}
    own = {name: value for name, value in plain.items() if name in names}
    rest = {name: value for name, value in plain.items() if name not in names and name != "kind"}
    if "figures" in names:
        own["figures"], rest = rest, {}
    if wrong := [*rest, *sorted(names - own.keys())]:
        raise ValueError(
            f"expected the event {kind!r} with {', '.join(sorted(names))}; "
            f"{wrong[0]!r} is {'unknown' if rest else 'missing'}"
        )
    return KINDS[kind](**own)


def _fits(value: object, kind: Any) -> bool:
    """Whether ``value`` is of the type of a field; an integer is a float, a bool is no number."""
    if kind is int or kind is float:
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if get_origin(kind) is list:
        (entry,) = get_args(kind)
        return isinstance(value, list) and all(_fits(item, entry) for item in value)
    if kind == dict[str, float]:
        return isinstance(value, dict) and all(_fits(number, float) for number in value.values())
    return isinstance(value, get_origin(kind) or kind)
