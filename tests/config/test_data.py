"""What the options of data and augmentation refuse."""

import pytest

from apdist.config import Config, override


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.image_size": 7}, "data.image_size must lie in .8, 32768."),
        ({"data.group_size": 1}, "data.group_size must be at least 2"),
        ({"data.holdout_share": 1.0}, "data.holdout_share must lie in \\[0, 1\\)"),
        ({"data.loader_threads": 0}, "data.loader_threads must be at least 1"),
        ({"data.read_deadline_s": 0.0}, "data.read_deadline_s must lie in"),
        ({"data.decoder": "pilow"}, "auto, pillow, simplejpeg, or .*; did you mean 'pillow'"),
        ({"data.decoder": "simplejpeg-1.9.0+pillow-12.0"}, "one of them with its versions"),
        ({"data.shards": ""}, "data.shards is empty"),
        ({"augment.min_scale": 1.5}, "0 < min <= max <= 2"),
        ({"augment.max_scale": 2.5}, "0 < min <= max <= 2"),
        ({"augment.rotation_degrees": 181.0}, "augment.rotation_degrees must lie in"),
        ({"augment.flip_probability": float("nan")}, "augment.flip_probability must lie in"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)


@pytest.mark.parametrize(("processes", "threads", "expected"), [(0, 3, 3), (2, 3, 6)])
def test_images_are_decoded_by_the_threads_of_all_processes(
    processes: int, threads: int, expected: int
) -> None:
    changes = {"data.loader_processes": processes, "data.loader_threads": threads}
    assert override(Config(), changes).data.num_decoders == expected
