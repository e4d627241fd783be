"""The evaluations of a training: which images, with which weights, and what is kept of them.

As the training goes on the watched split is measured: held-out images, by which weights are chosen.
The evaluation split is measured before the first step and with the chosen weights after the last;
where no images are held out it is watched itself, and nothing is chosen.
Evaluation sets are measured beside.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from apdist.config import Config, override
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.catalogue.selection import (
    evaluation_images,
    validation_images,
    validation_name,
)
from apdist.figures import EVALUATION, logged
from apdist.model.descriptor import DescriptorNet
from apdist.retrieval.metrics import RetrievalScores
from apdist.retrieval.scores_file import read_scores, write_scores
from apdist.training.choosing import Choice, ChosenWeights, is_no_worse, refuse_unchoosable
from apdist.training.evaluation import evaluate
from apdist.training.events import Evaluated, StepDone
from apdist.training.learning.averaging import RunningMean, WeightBlends, local_parameters
from apdist.training.run_folder.history import HistoryEvent
from apdist.training.run_folder.keeper import Keeper
from apdist.training.run_folder.kept_weights import CHOSEN, START
from apdist.training.run_folder.runs import evaluation_name
from apdist.training.sets import EvaluationSets
from apdist.training.step.sharding import full_tensor, reshard
from apdist.training.step.states import load_network_state


class Measuring:
    """Measures a network in training; all workers must call each method.

    Args:
        config: of the run.
        keeper: of what is found; it has restored the run.
        network: in training.
        mean: of its weights.
        catalogue: with all splits.
        tell: called on worker 0 with what was found.
    """

    def __init__(
        self,
        config: Config,
        keeper: Keeper,
        network: DescriptorNet,
        mean: RunningMean,
        catalogue: Catalogue,
        tell: Callable[[HistoryEvent], None],
    ) -> None:
        self.config, self.keeper, self.network, self.mean = config, keeper, network, mean
        self.tell = tell
        self.fit = network.fit(config.data.image_size, config.evaluation.resize)
        self.workers, self.device = keeper.workers, next(network.parameters()).device
        data, seed = config.data, config.training.seed
        validation = validation_images(catalogue, data, seed)
        refuse_unchoosable(config, 0 if validation is None else len(validation))
        self.watched = data.eval_split if validation is None else validation_name(data)
        splits = {self.watched: validation} if validation is not None else {}
        if data.eval_split and data.eval_split not in splits:
            splits[data.eval_split] = evaluation_images(catalogue, data, seed)
        self._splits = splits
        split = "" if validation is None else self.watched
        self.choice = Choice(split, config.training.patience, keeper.history)
        self._blends = WeightBlends(network, config.training.blend, self._start())
        self._blend = self._last_blend()
        self.sets = EvaluationSets(config, keeper, network, self.fit, tell)
        self._update_is_enough()

    def begin(self, step: int) -> None:
        """Measure what a run that begins, or goes on, after ``step`` steps has not measured."""
        is_new = not self._first_says(any(isinstance(e, StepDone) for e in self.keeper.history))
        for split in self._splits:
            is_due = self.is_due(step) if split == self.watched else is_new
            if is_due and not self._was_measured(split, step):
                self._measure(split, step)
        if not self._is_end(step):
            self._measure_sets(step)

    def measure_due(self, step: int) -> bool:
        """Measure the watched split and the sets, if it is time to; whether one of them was."""
        is_watched = self.is_due(step) and bool(self.watched)
        if is_watched:
            self._measure(self.watched, step)
        if self._is_end(step) or not self.sets.is_due(step):
            return is_watched
        self._measure_sets(step)
        return True

    @contextmanager
    def chosen(self, step: int) -> Iterator[ChosenWeights]:
        """The network has the chosen weights in the block; the evaluation split is measured so."""
        choice = self.choice.chosen(self.config, step)
        best = self.keeper.kept_weights(CHOSEN, self.device) if self.choice.split else {}
        if best:
            load_network_state(self.network, best)
            yield self._measured_with(choice, step)
            return
        with self.mean.shown(), self._blends.shown(choice.blend):
            yield self._measured_with(choice, step)

    def is_due(self, step: int) -> bool:
        """Whether the watched split is measured after ``step`` steps."""
        is_last = step == self.config.training.steps
        return is_last or step % self.config.evaluation.every_steps == 0

    def _measured_with(self, choice: ChosenWeights, step: int) -> ChosenWeights:
        split = self.config.data.eval_split
        if split and split != self.watched and not self._was_measured(split, step):
            with self.keeper.during(f"evaluating {split} at the end"):
                self._tell(split, step, self._scores(split), choice.blend, of_step=choice.step)
        self.sets.measure_due(step, choice.blend, of_step=choice.step, is_end=True)
        return choice

    def _is_end(self, step: int) -> bool:
        """Whether what is measured now waits for the chosen weights."""
        return step == self.config.training.steps or self.is_enough

    def _measure_sets(self, step: int) -> None:
        blend = self._blend if step else 1.0  # at the start all blends are alike
        with self.mean.shown(), self._blends.shown(blend):
            self.sets.measure_due(step, blend)

    def _last_blend(self) -> float:
        """The blend that was best when the watched split was last measured; else the first one."""
        blends = self._blends.values
        seen = [
            event.blend
            for event in self.keeper.history
            if isinstance(event, Evaluated) and event.split == self.watched and event.step
        ]
        place = blends.index(seen[-1]) if seen and seen[-1] in blends else 0
        return blends[self.workers.broadcast_number(place, self.device)]

    def _measure(self, split: str, step: int) -> None:
        with self.keeper.during(f"evaluating step {step}"):
            began = time.perf_counter()
            if split != self.watched:  # at the start, where all blends are alike
                self._tell(split, step, self._scores(split), 1.0)
                return
            # At the start all blends are alike.
            blends = self._blends if step else WeightBlends(self.network, (), {})
            scores = self._scores_on(blends, split)
            found = [s.mean_average_precision for s in scores]
            place = found.index(max(found)) if scores else 0
            place = self.workers.broadcast_number(place, self.device)
            blend, name = blends.values[place], ""
            self._blend = blend if step else self._blend
            is_kept = bool(scores) and bool(self.choice.split) and self._is_no_worse(scores[place])
            if self.choice.split and self._first_says(is_kept):
                with self.mean.shown(), blends.shown(blend):
                    name = self.keeper.keep_weights(CHOSEN, self._whole())
            told = scores[place] if scores else None
            self._tell(split, step, told, blend, name, time.perf_counter() - began)
        self._update_is_enough()

    def _is_no_worse(self, scores: RetrievalScores) -> bool:
        """Whether weights with these ``scores`` of the watched split are to be kept."""
        if (best := self.choice.best) is None:
            return True
        before = read_scores(self._scores_file(self.watched, best.step)).average_precision
        labels = torch.tensor(self._splits[self.watched].labels)
        return is_no_worse(scores.average_precision, before, labels)

    def _scores_file(self, split: str, step: int) -> str:
        return storage.join(self.keeper.run, evaluation_name(split, step))

    def _tell(
        self,
        split: str,
        step: int,
        scores: RetrievalScores | None,
        blend: float,
        weights: str = "",
        seconds: float = 0.0,
        of_step: int = -1,
    ) -> None:
        """Keep and tell what worker 0 found."""
        if scores is None:
            return
        figures = logged(EVALUATION, scores)
        self.keeper.refuse_if_lost()
        write_scores(scores, self._scores_file(split, step))
        event = Evaluated(
            step=step,
            split=split,
            figures=figures,
            seconds=seconds,
            of_step=-1 if of_step == step else of_step,
            blend=blend,
            weights=weights,
        )
        self.choice.add(event)
        self.tell(event)

    def _scores(self, split: str) -> RetrievalScores | None:
        """Scores of the network as it is, on worker 0; on the others None."""
        found = evaluate(self.network, self._splits[split], self.fit, self.config, self.workers)
        return found[0] if found else None

    def _scores_on(self, blends: WeightBlends, split: str) -> list[RetrievalScores]:
        """A score for each blend on worker 0; on the others nothing."""
        with self.mean.shown():
            network, num = blends.network_of_all(), len(blends.values)
            images = self._splits[split]
            return evaluate(network, images, self.fit, self.config, self.workers, num)

    def _start(self) -> dict[str, Tensor]:
        """This worker's parts of the weights at the start, if any blend needs them."""
        if set(self.config.training.blend) <= {1.0}:
            return {}
        own = local_parameters(self.network)
        start = self.keeper.kept_weights(START, self.device)
        if not start:
            self.keeper.keep_weights(START, self._whole())
            return {name: part.clone() for name, part in own.items()}
        trained = {name: part.clone() for name, part in own.items()}
        load_network_state(self.network, start)
        found = {name: part.clone() for name, part in own.items()}
        for name, part in trained.items():
            own[name].copy_(part)
        return found

    def _whole(self) -> dict[str, Tensor]:
        """The network's state as whole tensors."""
        reshard(self.network)
        return {name: full_tensor(value) for name, value in self.network.state_dict().items()}

    def _was_measured(self, split: str, step: int) -> bool:
        return self._first_says(
            any(
                isinstance(e, Evaluated) and (e.split, e.step) == (split, step)
                for e in self.keeper.history
            )
        )

    def _update_is_enough(self) -> None:
        """Have all workers stop early where worker 0's history of evaluations says so."""
        self.is_enough = self._first_says(self.choice.is_enough)

    def _first_says(self, answer: bool) -> bool:
        """The ``answer`` of worker 0, which alone keeps the history; all workers act on it."""
        return bool(self.workers.broadcast_number(int(answer), self.device))


def watched_alone(config: Config, catalogue: Catalogue) -> Config:
    """``config`` of a training that measures nothing but the split that it is watched by.

    A trial of a sweep does not look at the others: the best ones are measured there at the end.
    """
    held_out = validation_images(catalogue, config.data, config.training.seed)
    unseen = {} if held_out is None else {"data.eval_split": ""}
    return override(config, {"evaluation.sets": [], **unseen})
