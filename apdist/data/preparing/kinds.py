"""What a file is, by its name and first bytes: a picture, or what is passed over and counted."""

import re
import warnings

from PIL import Image, UnidentifiedImageError

PICTURES = re.compile(
    r"jpe?g|jpe|jfif|a?png|webp|gif|bmp|dib|tiff?|p[pgbnf]m|jp2|j2k|jp[cxf]|avifs?|hei[cf]|jxl|tga"
    r"|ico|icns|psd|pcx|sgi|rgb|dds|qoi|svg"
)
"""Extensions that promise a picture: what cannot be read of them is damaged or not supported."""
RAW = re.compile(r"3fr|arw|cr[23w]|dng|erf|iiq|kdc|mrw|nef|nrw|orf|pef|raf|raw|rw2|srw")
"""Extensions of cameras' raw files, of which Pillow would read a small preview."""
NOT_READ = re.compile(r"hei[cf]|jxl|svg")
"""Extensions of pictures that Pillow does not read."""
SNIFFED = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Formats that are recognised without an extension: their first bytes belong to no other file."""
SYSTEM_FOLDERS = re.compile(
    r"__macosx|@eadir|[#@]recycle|\$recycle\.bin|#snapshot|lost\+found|system volume information"
)
"""Folders of macOS' zip, of network disks (with small copies of the pictures) and of Windows."""
HIDDEN = "hidden: its name begins with a dot"
COMPOSED = "label in another Unicode normal form: composed (NFC)"
SPACES = "label with spaces around it: taken off"
SYSTEM = "an operating system's folder"


def hidden_kind(name: str) -> str:
    """Why a file or folder of this name is passed over wherever it lies; else empty."""
    if name.startswith("."):
        return HIDDEN
    return SYSTEM if SYSTEM_FOLDERS.fullmatch(name.lower()) else ""


def extension(name: str) -> str:
    """What follows the last dot, in lower case; empty where there is none."""
    stem, dot, last = name.rpartition(".")
    return last.lower() if dot and stem else ""


def is_raw(name: str) -> bool:
    """Whether the name is that of a camera's raw file."""
    return RAW.fullmatch(extension(name)) is not None


def promises_picture(name: str) -> bool:
    """Whether the name is that of a picture."""
    return is_raw(name) or PICTURES.fullmatch(extension(name)) is not None


def is_picture(path: str, name: str) -> bool:
    """Whether the file promises a picture by its name, or is one by its first bytes.

    What cannot be looked at counts as one: reading it will tell.
    """
    if promises_picture(name):
        return True
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            with Image.open(path, formats=[kind for kind in SNIFFED if kind in Image.OPEN]):
                return True
    except UnidentifiedImageError:
        return False
    except Exception:  # a damaged header, or a file that may not be read
        return True


def no_picture(name: str) -> str:
    """Kind of a file that is no picture."""
    return f"no picture: .{last}" if (last := extension(name)) else "no picture: no extension"
