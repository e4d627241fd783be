"""Pictures are decoded so many pixels at once, and their memory goes back to the system."""

import threading

import pytest

from apdist.serving import decoding
from apdist.serving.decoding import DecodingRoom


@pytest.mark.parametrize(("pixels", "times"), [(decoding._LARGE, 0), (decoding._LARGE + 1, 2)])
def test_after_large_pictures_memory_goes_back_to_the_system(
    pixels: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[None] = []
    monkeypatch.setattr(decoding, "_give_back_memory", lambda: given_back.append(None))
    room = DecodingRoom(decoding._LARGE * 2)
    with room.held(pixels):
        assert not given_back
    with pytest.raises(ValueError, match="damaged"), room.held(pixels):
        raise ValueError("damaged")
    assert len(given_back) == times


def test_a_picture_larger_than_the_room_is_decoded_alone() -> None:
    room, came = DecodingRoom(10), threading.Event()

    def other() -> None:
        with room.held(1):
            came.set()

    thread = threading.Thread(target=other)
    with room.held(1000):
        thread.start()
        assert not came.wait(0.1)
    thread.join(10)
    assert came.is_set()
