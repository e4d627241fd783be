import io

import pytest
from PIL import Image

from apdist.serving.decoding import DecodingRoom
from apdist.serving.limits import RefusedError
from apdist.serving.thumbnails import SIDE, Encoded, ThumbnailCache, thumbnail_of, whole_of
from tests.pictures import encoded, picture
from tests.serving.conftest import asked_for


@pytest.fixture
def room() -> DecodingRoom:
    return DecodingRoom(10**6)


def test_a_thumbnail_is_small_and_whole_pictures_are_their_files(room: DecodingRoom) -> None:
    image = picture(1, 1, side=500).crop((0, 0, 500, 250))
    small = Image.open(io.BytesIO(thumbnail_of(encoded(image), room).data))
    assert (small.format, small.size) == ("WEBP", (SIDE, SIDE // 2))
    jpeg = encoded(image, "JPEG")
    assert whole_of(jpeg, room) == Encoded(jpeg, "image/jpeg")


def test_what_browsers_do_not_show_is_shown_as_png(room: DecodingRoom) -> None:
    image = picture(1, 1, side=50)
    shown = whole_of(encoded(image, "TIFF"), room)
    assert shown.media_type == "image/png"
    assert Image.open(io.BytesIO(shown.data)).tobytes() == image.tobytes()
    for make in (thumbnail_of, whole_of):
        with pytest.raises(RefusedError, match="no image") as refused:
            make(b"<svg onload=alert(1)>", room)
        assert refused.value.status == 404


def test_pictures_are_decoded_where_there_is_room(
    room: DecodingRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, tiff = asked_for(room, monkeypatch), encoded(picture(1, 1, side=50), "TIFF")
    thumbnail_of(tiff, room)
    whole_of(tiff, room)
    whole_of(encoded(picture(1, 1, side=50), "JPEG"), room)  # sent as it is
    assert asked == [50 * 50, 50 * 50]


def test_the_cache_holds_so_many_bytes_and_forgets_the_least_seen() -> None:
    cache = ThumbnailCache(most_bytes=25)
    for name in "ab":
        cache.put(name, Encoded(bytes(10), name))
    assert cache.get("a") is not None
    cache.put("c", Encoded(bytes(10), "c"))
    cache.put("c", Encoded(bytes(10), "again"))
    assert [name for name in "abc" if cache.get(name)] == ["a", "c"]
    assert cache.num_bytes == 20
    cache.put("large", Encoded(bytes(30), "large"))
    assert cache.num_bytes == 0
