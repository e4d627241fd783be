"""What is said where the use of a cluster ends."""

import signal

import pytest
import ray

from apdist.training.cluster.ends import TrainingError, lost_cluster_explained, told_as_stop


def test_bad_input_that_is_told_after_a_signal_is_still_told() -> None:
    with pytest.raises(ValueError, match="no room"), told_as_stop([signal.SIGINT]):
        raise ValueError("no room for the last checkpoint")


def test_a_cluster_that_is_lost_is_told_in_one_line_with_a_remedy() -> None:
    error = ray.exceptions.RayActorError()
    lost = pytest.raises(TrainingError, match=r"^lost the Ray cluster \(.*\); go on$")
    with lost as told, lost_cluster_explained("go on"):
        raise error
    assert "\n" not in str(told.value)


def test_a_failure_of_tune_is_told_in_one_line_and_one_of_ours_is_passed_on() -> None:
    from ray.tune.error import TuneError

    with pytest.raises(TrainingError, match=r"\(broken\); go on$"), lost_cluster_explained("go on"):
        raise TuneError("broken")
    with pytest.raises(KeyError), lost_cluster_explained("go on"):
        raise KeyError
