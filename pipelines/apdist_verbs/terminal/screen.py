"""What a person sees of a training: a listener of `cluster.watch`."""

from apdist.figures import EVALUATION, STEP, figures_of_sets, main_keys, texts
from apdist.training.events import (
    CheckpointWritten,
    ChunksResized,
    Ended,
    Evaluated,
    Event,
    Failed,
    MachineSampled,
    Noticed,
    PhaseBegan,
    Restarted,
    SetMeasured,
    Similarities,
    Started,
    StepDone,
    Stopping,
    TrialEnded,
    TrialStarted,
    Warned,
    WorkersFailed,
    unhandled,
)
from apdist_verbs.terminal.console import say, warn
from apdist_verbs.terminal.progress import GAP, Progress


class Screen:
    """Shows what the workers tell.

    Args:
        progress: of the training's steps.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.topics: set[str] = set()
        """What was noticed already; workers that start anew notice it again."""

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Started() | PhaseBegan() | StepDone():
                self.move(event)
            case Evaluated() | SetMeasured() | Ended() | Restarted():
                say(measured(event))
            case Noticed():
                self.notice(event)
            case Warned():
                warn(event.text)
            case Stopping():
                say(
                    "stopping: the workers finish their step and write a checkpoint "
                    "(again to end at once)"
                )
            case Similarities() | CheckpointWritten() | ChunksResized() | MachineSampled():
                pass  # for others
            case Failed() | TrialStarted() | TrialEnded():
                pass  # a failure ends the run, the sweep shows its trials
            case WorkersFailed():
                is_resumed = not event.ranks and not event.is_planned
                tell = say if event.is_planned else warn
                tell(str(event) if is_resumed else f"{event}; starting again")
                self.progress.phase("starting the workers again", event.time_ms / 1000)
            case _:
                unhandled(event)

    def move(self, event: Started | PhaseBegan | StepDone) -> None:
        """Move the progress, by the clock of the worker that tells."""
        if isinstance(event, StepDone):
            note = GAP.join(texts(STEP, event.figures))
            self.progress(event.step, note, event.time_ms / 1000)
        elif isinstance(event, PhaseBegan):
            self.progress.phase(event.name, event.time_ms / 1000)
        else:  # perhaps again after a failure
            if event.step:
                say(f"going on from step {event.step}")
            say(f"workers: {group_of(event)}")
            if event.chunk_size_reason:
                say(f"chunk size: {event.chunk_size} images ({event.chunk_size_reason})")
            say(f"activations: {event.activations} ({event.activations_reason})")
            if event.gathered_once:
                say("parameters: gathered once a stage, they fit")
            if event.numerics:
                say(f"network: {event.numerics}")
            self.progress.start(event.step)

    def notice(self, event: Noticed, who: str = "") -> None:
        """Warn once of each topic."""
        if event.topic not in self.topics:
            warn(f"{who}step {event.step}: {event.text}")
        self.topics.add(event.topic)


def group_of(event: Started) -> str:
    """How many workers there are, on how many hosts, and what they compute with."""
    num_hosts = len(set(event.hosts))
    where = f" on {num_hosts} hosts" if num_hosts > 1 else ""
    return f"{len(event.hosts)}{where}, {'a GPU each' if event.numerics else 'no GPU'}"


def measured(event: Evaluated | SetMeasured | Ended | Restarted) -> str:
    """What was found or happened, in a line."""
    if isinstance(event, Restarted):
        return str(event)
    if isinstance(event, Ended):
        early = f"ended early, after step {event.step}: patience is out; " if event.is_early else ""
        return f"{early}weights: {event.weights}"
    when = f"step {event.step}" if event.of_step < 0 else f"weights of step {event.of_step}"
    blend = f" (blend {event.blend:g})" if event.blend != 1 else ""
    if isinstance(event, SetMeasured):
        labels = figures_of_sets()
        main = [f"{labels[key]} {event.figures[key]:.4f}" for key in main_keys(event.figures)]
        return f"{when}: set {event.name} ({event.protocol}) {'; '.join(main)}{blend}"
    found = ", ".join(texts(EVALUATION, event.figures))
    kept = ", kept" if event.weights and event.step else ""
    return f"{when}: {event.split} {found}{blend}{kept}"
