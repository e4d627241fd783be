"""The page in a headless Chromium: files, keys, parts, filters, names that are no markup."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from apdist.data.images import open_image
from apdist.serving.guard import Access
from apdist.serving.page import page, policy
from apdist.serving.reload import Current
from apdist.serving.service import Service
from tests.pictures import encoded, picture
from tests.report.browser import CHROMIUM, Browser, browser
from tests.retrieval.querying.conftest import Indexed
from tests.serving.conftest import Served, serving

in_browser = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium to look with")
FOUND = "document.querySelectorAll('#results li').length"


def test_a_page_may_run_what_is_written_in_it_and_nothing_else() -> None:
    text, its_policy = page("page.html")
    assert text.count("<script>") == text.count("</script>") == 1
    assert "unsafe" not in its_policy
    assert "script-src 'sha256-" in its_policy
    assert policy(text.replace('"use strict";', "")) != its_policy
    assert "script-src 'none'" in policy("<p>no script</p>")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def choose(chromium: Browser, path: Path) -> None:
    """Pick a file, as a person does in the dialog of the system."""
    found = chromium.send("Runtime.evaluate", expression="document.getElementById('file')")
    chromium.send("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])


def opened(chromium: Browser, served: Served, more: str = "") -> None:
    chromium.session = ""
    chromium.events.clear()
    chromium.open(served.address + more)
    chromium.send("DOM.enable")


def complaints(chromium: Browser) -> list[str]:
    """Errors of the page, and what its policy has stopped."""
    chromium.ask("1")
    return [
        json.dumps(event["params"])
        for event in chromium.events
        if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
    ]


@in_browser
def test_a_picture_its_parts_and_results_are_searched_for(
    served: Served, chromium: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "<img src=x onerror=alert(1)>.png"
    file.write_bytes(encoded(picture(2, 3, side=200)))
    opened(chromium, served)
    chromium.until("document.getElementById('about').textContent.startsWith('30 images of 5')")
    choose(chromium, file)
    chromium.until(f"{FOUND} === 24 && document.querySelectorAll('.shown img').length === 24")
    assert chromium.ask("document.getElementById('name').textContent") == file.name
    whole = chromium.ask("document.querySelector('#results .score span').textContent")

    # A part is dragged.
    chromium.until("!document.getElementById('frame').hidden")
    place = chromium.ask(
        "(() => { const r = document.getElementById('picture').getBoundingClientRect();"
        " return [r.left, r.top, r.width, r.height]; })()"
    )
    left, top, width, height = place
    chromium.mouse("mousePressed", left + 0.25 * width, top + 0.25 * height)
    chromium.mouse("mouseMoved", left + 0.5 * width, top + 0.6 * height)
    chromium.mouse("mouseReleased", left + 0.5 * width, top + 0.75 * height)
    box = chromium.ask("query.box")
    assert box == pytest.approx([50, 50, 100, 150], abs=2)
    chromium.until(f"document.querySelector('#results .score span').textContent !== '{whole}'")
    chromium.until(f"{FOUND} === 24")
    chromium.ask("document.getElementById('whole').click()")
    chromium.until(f"document.querySelector('#results .score span')?.textContent === '{whole}'")

    # A result is searched for with the keyboard.
    chromium.ask("document.activeElement.blur()")
    chromium.press("ArrowRight")
    chromium.press("ArrowRight")
    assert chromium.ask("buttons().indexOf(document.activeElement)") == 1
    key = chromium.ask("results[1].key")
    chromium.press("s")
    chromium.until(f"query.key === {json.dumps(key)} && {FOUND} === 24")
    chromium.until(f"results.length && !results.some((one) => one.key === {json.dumps(key)})")
    assert chromium.ask("decodeURIComponent(location.hash)") == f"#key={key}"
    assert complaints(chromium) == []


@in_browser
def test_pictures_are_dropped_and_pasted(served: Served, chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "dropped.png"
    file.write_bytes(encoded(picture(1, 0)))
    opened(chromium, served)
    dragged = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        chromium.send("Input.dispatchDragEvent", type=kind, x=9, y=9, data=dragged)
    chromium.until("document.body.classList.contains('over')")
    chromium.send("Input.dispatchDragEvent", type="drop", x=9, y=9, data=dragged)
    chromium.until(f"!document.body.classList.contains('over') && {FOUND} === 24")
    assert chromium.ask("document.getElementById('name').textContent") == "dropped.png"
    first = chromium.ask("results[0].key")
    nothing, pasted = (
        chromium.ask(
            f"""(() => {{
              const data = new DataTransfer();
              const bytes = Uint8Array.from(atob('{content}'), (c) => c.charCodeAt(0));
              if (bytes.length) data.items.add(new File([bytes], '', {{type: 'image/png'}}));
              const paste = {{clipboardData: data, cancelable: true}};
              return document.dispatchEvent(new ClipboardEvent('paste', paste));
            }})()"""
        )
        for content in ("", base64.b64encode(encoded(picture(2, 0))).decode())
    )
    assert (nothing, pasted) == (True, False)  # text goes where text goes
    chromium.until("document.getElementById('name').textContent === 'Pasted picture'")
    chromium.until(f"{FOUND} === 24 && results[0].key !== {json.dumps(first)}")
    assert complaints(chromium) == []


@in_browser
def test_a_webp_is_shown_as_upright_as_it_is_searched_for(
    served: Served, chromium: Browser, tmp_path: Path
) -> None:
    wide = Image.new("RGB", (40, 24), "white")
    wide.paste("red", (0, 0, 8, 6))  # at the left of the top
    opened(chromium, served)
    for orientation, (width, height), corner in [
        *((1, (40, 24), "left top"), (2, (40, 24), "right top"), (3, (40, 24), "right bottom")),
        *((4, (40, 24), "left bottom"), (5, (24, 40), "left top"), (6, (24, 40), "right top")),
        *((7, (24, 40), "right bottom"), (8, (24, 40), "left bottom")),
    ]:
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = tmp_path / f"{orientation}.webp"
        wide.save(file, lossless=True, exif=exif)
        upright = open_image(file.read_bytes())
        assert upright.size == (width, height)
        choose(chromium, file)
        chromium.until(
            f"document.getElementById('name').textContent === '{file.name}' &&"
            f" !document.getElementById('frame').hidden"
            f" && document.getElementById('picture').naturalWidth === {width}"
        )
        seen = chromium.ask(
            "(() => { const shown = document.getElementById('picture');"
            " const canvas = document.createElement('canvas');"
            " [canvas.width, canvas.height] = [shown.naturalWidth, shown.naturalHeight];"
            " const drawing = canvas.getContext('2d'); drawing.drawImage(shown, 0, 0);"
            " const isRed = (x, y) => drawing.getImageData(x, y, 1, 1).data[1] < 128;"
            " const [right, bottom] = [canvas.width - 2, canvas.height - 2];"
            " return [['left top', 1, 1], ['right top', right, 1], ['left bottom', 1, bottom],"
            " ['right bottom', right, bottom]].filter(([, x, y]) => isRed(x, y))"
            ".map(([name]) => name); })()"
        )
        assert seen == [corner]
        place = (1 if "left" in corner else width - 2, 1 if "top" in corner else height - 2)
        assert upright.getpixel(place) == (255, 0, 0)


@in_browser
def test_labels_conditions_and_the_lightbox(served: Served, chromium: Browser) -> None:
    key = served.search(encoded(picture(1, 1)), "k=1").json["results"][0]["key"]
    opened(chromium, served, f"#key={key}")
    chromium.until(f"{FOUND} === 24")
    chromium.press("/")
    assert chromium.ask("document.activeElement.id") == "label"
    chromium.ask("document.getElementById('label').value = 'class 3'")
    chromium.ask("document.getElementById('label').dispatchEvent(new Event('change'))")
    chromium.until(f"{FOUND} === 6 && results.every((one) => one.label === 'class 3')")
    chromium.ask("document.getElementById('condition').value = 'labl=3'")
    chromium.ask("document.getElementById('condition').focus()")
    chromium.press("Enter")
    chromium.until("!document.getElementById('error').hidden")
    assert "did you mean 'label'" in chromium.ask("document.getElementById('error').textContent")
    chromium.ask("document.querySelector('#chips button').click()")
    chromium.until(f"document.getElementById('error').hidden && {FOUND} === 6")
    chromium.ask("document.activeElement.blur()")
    chromium.press("ArrowDown")
    chromium.press("Enter")
    chromium.until("document.getElementById('lightbox').open")
    chromium.until("document.getElementById('large').naturalWidth === 24")
    chromium.press("ArrowRight")
    chromium.until("document.getElementById('words').textContent.startsWith('2. ')")
    chromium.press("Escape")
    chromium.until("!document.getElementById('lightbox').open")
    chromium.until("buttons().indexOf(document.activeElement) === 1")
    wanted = chromium.ask("results[2].key")
    chromium.press("Enter")
    chromium.until("document.getElementById('lightbox').open")
    chromium.press("ArrowRight")
    chromium.press("s")
    assert chromium.ask("query.key") == wanted  # not that which it was opened from
    chromium.until(f"{FOUND} === 5 && !results.some((one) => one.key === query.key)")
    chromium.ask(f"location.hash = '#key={key}'")
    chromium.until(f"query.key === {json.dumps(key)} && {FOUND} === 6")
    chromium.ask("location.hash = '#key=%E0%A4%A'")
    chromium.until("document.getElementById('error').textContent.endsWith(': %E0%A4%A')")
    # The refused condition is the only one that the browser itself notes.
    assert [one for one in complaints(chromium) if "422" not in one] == []


@in_browser
def test_on_a_phone_the_results_come_into_sight(
    served: Served, chromium: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(picture(1, 0)))
    opened(chromium, served)
    phone = {"width": 420, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    chromium.send("Emulation.setDeviceMetricsOverride", **phone)
    choose(chromium, file)
    chromium.until(f"{FOUND} === 24 && scrollY > 0")
    top = "document.getElementById('results').getBoundingClientRect().top"
    assert chromium.ask(f"{top} > 0 && {top} < innerHeight / 2") is True
    assert chromium.ask("document.documentElement.scrollWidth") <= 420
    (tmp_path / "empty.png").touch()
    choose(chromium, tmp_path / "empty.png")
    chromium.until("document.getElementById('error').textContent === 'empty.png is empty.'")


@in_browser
def test_names_are_text_and_a_picture_that_is_none_is_told(
    served: Served, chromium: Browser, tmp_path: Path
) -> None:
    opened(chromium, served)
    evil = "<img src=x onerror=\"document.title='bad'\">"
    shown = {"rank": 1, "score": 0.5, "key": evil, "label": evil, "entry": {evil: evil}}
    chromium.ask(
        f"show({json.dumps({'milliseconds': 1, 'results': [shown]})},"
        " new AbortController().signal); enlarge(0); 1"
    )
    chromium.until("document.querySelector('.shown').textContent === 'no picture'")
    assert chromium.ask("document.querySelector('#results .class').textContent") == evil
    assert chromium.ask("document.querySelectorAll('main [onerror], dialog [onerror]').length") == 0
    assert chromium.ask("document.title") == "apdist search"
    chromium.ask("shut()")
    (tmp_path / "no.png").write_bytes(b"no picture at all")
    choose(chromium, tmp_path / "no.png")
    chromium.until("document.getElementById('error').textContent.includes('damaged')")


@in_browser
def test_a_token_is_asked_for_once(chromium: Browser, indexed: Indexed) -> None:
    token = "t" * 32
    current = Current([indexed.run])
    with serving(Service(current=current), Access(token=token)) as guarded:
        opened(chromium, guarded)
        chromium.until("document.getElementById('asked').open")
        chromium.ask("document.getElementById('token').value = 'wrong'")
        chromium.ask("document.querySelector('#asked button').click()")
        chromium.until("token === 'wrong' && document.getElementById('asked').open")
        chromium.ask(f"document.getElementById('token').value = '{token}'")
        chromium.ask("document.querySelector('#asked button').click()")
        chromium.until("document.getElementById('about').textContent.startsWith('30 images')")
        file = base64.b64encode(encoded(picture(0, 0))).decode()
        chromium.ask(
            f"setQuery(new File([Uint8Array.from(atob('{file}'), (c) => c.charCodeAt(0))], 'a.png',"
            " {type: 'image/png'}), '', 'a'); 1"
        )
        chromium.until("document.querySelectorAll('.shown img').length === 24")
        assert token not in chromium.ask("document.documentElement.outerHTML")
        chromium.ask("sessionStorage.clear()")
