"""Single pictures: files and Pillow images of any kind, as gray or RGB pixels in the form of a data set."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from resnet.data.errors import DataError
from resnet.data.fitting import fitted, least_size, scaled
from resnet.data.form import Form, Size
from resnet.data.modes import in_bands, opaque

HEIF = {".heic", ".heif"}  # need pillow-heif
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
RAW = {".arw", ".cr2", ".dng", ".nef"}  # of cameras; Pillow would open the small preview in some of them
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}  # Pillow knows these, and leaves their content to other programs
TURNS = {  # EXIF's orientations
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ON_THEIR_SIDE = (5, 6, 7, 8)
MODES = {1: "L", 3: "RGB"}

# About odd metadata, and about large images that are still acceptable. Not file by file: threads may decode at once.
warnings.filterwarnings("ignore", module="PIL")


def is_picture_name(path: Path) -> bool:
    """Tells by its suffix whether a file should be a picture, readable or not."""
    return path.suffix.lower() in picture_suffixes()


@cache
def picture_suffixes() -> frozenset[str]:
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset({suffix for suffix, kind in known if kind in Image.OPEN and kind not in NO_PICTURES} | HEIF | RAW)


def read_picture(path: Path, form: Form) -> Tensor:
    """Returns (C, H, W) uint8 in the form of the data set. Raises DataError if the file cannot be read."""
    with opened(path) as file:
        return _pixels(file, form)


def as_pixels(image: Image.Image, form: Form) -> Tensor:
    """Returns (C, H, W) uint8 of any picture, upright and on white, as read_picture does for its file. Raises DataError for values of an
    unknown range.
    """
    is_unread = isinstance(image, JpegImageFile) and image.tile and image.tell() == 0
    return _pixels(Image.open(image.fp) if is_unread else image, form)  # type: ignore[attr-defined, arg-type]


def _pixels(image: Image.Image, form: Form) -> Tensor:
    """May scale a JPEG file down for good while it reads it."""
    orientation = _orientation(image)
    size = _turned(form.size, orientation)
    decoded = _decoded(image, least_size((image.height, image.width), size, form.fit))
    pixels = fitted(_as_tensor(decoded), size, form.fit)
    if orientation in TURNS or len(pixels) != form.channels:
        pixels = _as_tensor(np.array(_upright(as_image(pixels), orientation, form.channels)))
    return pixels


def as_image(pixels: Tensor) -> Image.Image:
    """(C, H, W) uint8, of one or three channels, to a picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())


def read_image(path: Path, channels: int, longest: int | None = None) -> Image.Image:
    """Returns the picture as gray or RGB. Raises DataError if the file cannot be read."""
    with opened(path) as file:
        return as_gray_or_colour(file, channels, longest)


def as_gray_or_colour(image: Image.Image, channels: int, longest: int | None = None) -> Image.Image:
    """Returns any picture upright and on white. Raises DataError for values of an unknown range.

    Args:
        longest: a picture with twice as many pixels in its longer side may be reduced, as long as this many are left.
    """
    orientation, scale = _orientation(image), min((longest or math.inf) / max(image.size), 1)
    decoded = _decoded(image, scaled((image.height, image.width), scale))
    return _upright(as_image(_as_tensor(decoded)), orientation, channels)


def picture_size(path: Path) -> Size:
    """Returns (height, width) of the upright picture. Raises DataError."""
    with opened(path) as file:
        return _turned((file.height, file.width), _orientation(file))


def read_encoded(content: bytes, name: str, form: Form) -> Tensor:
    """Does the same for a picture that stands in another file. `name` begins the message of a DataError."""
    with _named(name), _open(BytesIO(content)) as file:
        return _pixels(file, form)


def encoded_size(content: bytes, name: str) -> Size:
    with _named(name), _open(BytesIO(content)) as file:
        return _turned((file.height, file.width), _orientation(file))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Gives the picture, of which only the header has been read. Raises DataError in place of whatever goes wrong with it."""
    with _named(str(path)):
        if path.exists() and not path.is_file():  # opening a pipe would block forever
            raise OSError("no regular file")
        if path.suffix.lower() in RAW:
            raise DataError("a camera's raw file; write it as JPEG, PNG or TIFF with the program that develops it")
        with path.open("rb") as content, _open(content) as file:
            yield file


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except MemoryError:  # is no fault of the file
        raise
    except Exception as error:  # decoders raise any error on damaged bytes
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{name}: truncated, corrupt or not an image ({reason}); mend it or take it away") from None


def _open(content: IO[bytes]) -> Image.Image:
    Image.init()
    try:
        return Image.open(content, formats=[kind for kind in Image.ID if kind not in NO_PICTURES])
    except UnidentifiedImageError as error:
        content.seek(0)
        head = content.read(12)
        if head[4:8] != b"ftyp" or head[8:] not in HEIF_BRANDS:
            raise ValueError("no kind of image that is known") from error
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise DataError("a HEIC picture, and the package pillow-heif is not installed; pip install -e '.[heic]'") from None
    register_heif_opener()
    return Image.open(content)


def _decoded(image: Image.Image, least: Size) -> NDArray[np.uint8]:
    """Returns the pixels as they lie in the file, (H, W), (H, W, 1) or (H, W, 3). A larger picture may come in any size from `least` on: a
    JPEG decodes to a fraction of its size in a fraction of the time and memory.
    """
    height, width = least
    if image.draft(None, (width, height)):
        fast = _decoded_faster(image)
        return np.array(opaque(in_bands(image))) if fast is None else fast
    image = in_bands(image)
    factor = min(image.height // height, image.width // width)
    return np.array(opaque(image.reduce(factor) if factor > 1 else image))


def _decoded_faster(image: Image.Image) -> NDArray[np.uint8] | None:
    """Returns the pixels of a gray or RGB JPEG file, the same that Pillow gives. None: something about the file is odd, which is left to
    Pillow.
    """
    import simplejpeg

    if image.format != "JPEG" or image.mode not in MODES.values():
        return None
    assert isinstance(image, JpegImageFile) and image.fp is not None
    image.fp.seek(0)
    try:
        colours = "GRAY" if image.mode == "L" else "RGB"
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(image.fp.read(), colours, min_height=image.height, min_width=image.width)
    except ValueError:
        return None
    return pixels


def _orientation(image: Image.Image) -> int:
    """Returns EXIF's number of how the picture lies."""
    if image.format == "TIFF":  # Pillow itself turns these
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except OSError:
        raise
    except Exception:  # metadata that are no EXIF
        return 1


def _upright(image: Image.Image, orientation: int, channels: int) -> Image.Image:
    image = image.transpose(TURNS[orientation]) if orientation in TURNS else image
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def _turned(size: Size, orientation: int) -> Size:
    return (size[1], size[0]) if orientation in ON_THEIR_SIDE else size


def _as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)  # (C, H, W)
