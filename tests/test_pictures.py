"""Pictures of every kind become the right pixels: the files of docs/own_images.md, made here one by one, and how large ones fit."""

import io
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image, ImageCms, ImageDraw
from test_damage import as_nobody

from resnet.api import Preprocessing
from resnet.data import DataError
from resnet.data import pictures as reading
from resnet.data.as_trained import as_trained
from resnet.data.files import ImageFiles
from resnet.data.form import Form
from resnet.data.pictures import as_gray_or_colour, as_pixels, is_picture_name, picture_size, read_image, read_picture

HEIGHT, WIDTH = 32, 48
Array = np.ndarray


def photo() -> Image.Image:
    """Smooth, so that no format loses much of it, and with no symmetry, so that each turn shows."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = Image.fromarray(np.stack([40 + 4 * x, 60 + 5 * y, 200 - 2 * x - y], 2).astype(np.uint8))
    image.paste((250, 250, 250), (4, 4, 16, 12))
    return image


COLOUR = np.asarray(photo())
GRAY = np.asarray(photo().convert("L"))
SEEN = np.linspace(0, 255, WIDTH).astype(np.uint8)[None].repeat(HEIGHT, 0)  # how opaque each pixel is
ON_WHITE = np.rint(COLOUR * (SEEN[..., None] / 255) + 255 - SEEN[..., None]).astype(np.uint8)
GRAY_ON_WHITE = np.rint(GRAY * (SEEN / 255) + 255 - SEEN).astype(np.uint8)
NEAR = 3.0  # of 255, on average, that JPEG and 256 colours may cost; another turn of the photo costs 60

Maker = Callable[[Path], Any]


def saved(image: Image.Image, **options: Any) -> Maker:
    return lambda path: image.save(path, **options)


def png(kind: int, depth: int, pixels: Array, size: tuple[int, int] | None = None) -> bytes:
    """A PNG written by hand, for what Pillow cannot write: `pixels` big-endian, (H, W) or (H, W, 3)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    width, height = size or (pixels.shape[1], pixels.shape[0])
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def jpeg(**options: Any) -> bytes:
    file = io.BytesIO()
    photo().save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def lying(orientation: int) -> tuple[Image.Image, Image.Exif]:
    """The photo as a camera that was held so stores it, with the note that says so."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    undone = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    return photo().transpose(reading.TURNS[undone[orientation]]), exif


def seen_through(mode: str) -> Image.Image:
    image = photo().convert(mode[:-1])
    image.putalpha(Image.fromarray(SEEN))
    return image


def frames() -> dict[str, Any]:
    return {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT), "red")]}


HOLED = COLOUR.copy()
HOLED[(COLOUR == 250).all(2)] = 255
PALETTE = photo().quantize(64)
HOLE_IN_PALETTE = np.array(PALETTE.convert("RGB"))
HOLE_IN_PALETTE[np.asarray(PALETTE) == PALETTE.getpixel((8, 8))] = 255
LAB = ImageCms.profileToProfile(photo(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
BLACK_AND_WHITE = photo().convert("1", dither=Image.Dither.NONE)
DEEP = GRAY.astype(np.uint16) * 256 + 99


def saved_as_heic(path: Path) -> None:
    from pillow_heif import from_pillow

    from_pillow(photo()).save(path, quality=95)


def no_file(path: Path) -> None:
    pass


FILES: list[tuple[str, Maker, Array | None]] = [  # name, what writes it, the pixels that it becomes (None: it is refused)
    ("photo.jpg", saved(photo(), quality=95), COLOUR),
    ("progressive.jpg", saved(photo(), quality=95, progressive=True), COLOUR),
    ("gray.jpg", saved(photo().convert("L"), quality=95), GRAY),
    ("rgb.jpg", saved(photo(), quality=95, keep_rgb=True), COLOUR),
    ("cmyk.jpg", saved(photo().convert("CMYK"), quality=95), COLOUR),
    ("two.jpg", saved(photo(), format="MPO", quality=95, **frames()), COLOUR),
    ("cmyk.tif", saved(photo().convert("CMYK")), COLOUR),
    ("ycbcr.tif", saved(photo().convert("YCbCr")), COLOUR),
    ("lab.tif", saved(LAB), COLOUR),
    ("black_and_white.png", saved(BLACK_AND_WHITE), np.asarray(BLACK_AND_WHITE.convert("L"))),
    ("palette.png", saved(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    ("palette_hole.png", saved(PALETTE, transparency=PALETTE.getpixel((8, 8))), HOLE_IN_PALETTE),
    ("colour_hole.png", saved(photo(), transparency=(250, 250, 250)), HOLED),
    ("gray_alpha.png", saved(seen_through("LA")), GRAY_ON_WHITE),
    ("alpha.png", saved(seen_through("RGBA")), ON_WHITE),
    ("alpha.webp", saved(seen_through("RGBA"), lossless=True), ON_WHITE),
    ("16.png", saved(Image.fromarray(DEEP)), GRAY),
    ("16.tif", saved(Image.fromarray(DEEP)), GRAY),
    ("16_dark.pgm", lambda path: path.write_bytes(b"P5 48 32 65535\n" + (DEEP // 256).astype(">u2").tobytes()), GRAY * 0),
    ("16.pgm", lambda path: path.write_bytes(b"P5 48 32 65535\n" + DEEP.astype(">u2").tobytes()), GRAY),
    ("16_colour.png", lambda path: path.write_bytes(png(2, 16, (COLOUR * np.uint16(256) + 99).astype(">u2"))), COLOUR),
    ("share.tif", saved(Image.fromarray((GRAY / 255).astype(np.float32))), GRAY),
    ("float.tif", saved(Image.fromarray(GRAY.astype(np.float32))), GRAY),
    ("share.pfm", saved(Image.fromarray((GRAY / 255).astype(np.float32))), GRAY),
    ("32.tif", saved(Image.fromarray(DEEP.astype(np.int32))), GRAY),
    ("32_small.tif", saved(Image.fromarray(GRAY.astype(np.int32))), GRAY),
    ("float_range.tif", saved(Image.fromarray((GRAY / 64 - 3).astype(np.float32))), None),
    ("32_range.tif", saved(Image.fromarray(GRAY.astype(np.int32) * 1000)), None),
    ("nan.tif", saved(Image.fromarray(np.where(GRAY > 200, np.nan, GRAY).astype(np.float32))), None),
    ("turned.jpg", lambda path: lying(6)[0].save(path, exif=lying(6)[1], quality=95), COLOUR),
    ("mirrored.jpg", lambda path: lying(7)[0].save(path, exif=lying(7)[1], quality=95), COLOUR),
    ("turned.png", lambda path: lying(8)[0].save(path, exif=lying(8)[1]), COLOUR),
    ("turned.tif", lambda path: lying(5)[0].save(path, exif=lying(5)[1]), COLOUR),
    ("turned.webp", lambda path: lying(3)[0].save(path, exif=lying(3)[1], lossless=True), COLOUR),
    ("odd_exif.jpg", saved(photo(), quality=95, exif=b"Exif\0\0no such thing"), COLOUR),
    ("animated.gif", saved(photo(), **frames()), COLOUR),
    ("animated.png", saved(photo(), **frames()), COLOUR),
    ("animated.webp", saved(photo(), lossless=True, **frames()), COLOUR),
    ("pages.tif", saved(photo(), **frames()), COLOUR),
    ("photo.heic", saved_as_heic, COLOUR),
    ("photo.avif", saved(photo(), quality=95), COLOUR),
    ("photo.jfif", saved(photo(), quality=95), COLOUR),
    ("photo.jp2", saved(photo()), COLOUR),
    ("photo.tga", saved(photo()), COLOUR),
    ("photo.bmp", saved(photo()), COLOUR),
    ("photo.ppm", saved(photo()), COLOUR),
    ("photo.qoi", saved(photo()), COLOUR),
    ("png.jpg", saved(photo(), format="PNG"), COLOUR),
    ("page.jpg", lambda path: path.write_text("<html>404</html>", "utf-8"), None),
    ("drawing.png", lambda path: photo().save(path, format="EPS"), None),
    ("photo.dng", saved(photo(), format="TIFF"), None),
    ("empty.png", lambda path: path.touch(), None),
    ("cut.jpg", lambda path: path.write_bytes(jpeg()[:-200]), None),
    ("cut.png", lambda path: path.write_bytes(png(2, 8, COLOUR)[:600]), None),
    ("bomb.png", lambda path: path.write_bytes(png(0, 8, GRAY, (60_000, 60_000))), None),
    ("folder.png", lambda path: path.mkdir(), None),
    ("pipe.png", lambda path: os.mkfifo(path), None),
    ("closed.png", lambda path: path.write_bytes(png(0, 8, GRAY)) and path.chmod(0), None),
    ("missing.png", no_file, None),
]
TOLD = dict(re.findall(r"^\| `([^`]+)` \|[^|]*\| (.*) \|$", (ROOT / "docs" / "own_images.md").read_text("utf-8"), re.MULTILINE))


def test_the_table_has_each_file() -> None:
    assert list(TOLD) == [name for name, *_ in FILES] and len(TOLD) >= 40


@pytest.mark.parametrize(("name", "write", "becomes"), FILES, ids=[name for name, *_ in FILES])
def test_what_each_file_becomes(tmp_path, monkeypatch, name, write, becomes) -> None:
    if name.endswith(".heic"):
        pytest.importorskip("pillow_heif")
    monkeypatch.chdir(tmp_path)
    write(Path(name))
    if becomes is None:
        told = as_nobody(lambda: read_picture(Path(name), Form((HEIGHT, WIDTH), 3)))
        assert re.fullmatch(re.escape(TOLD[name].strip("`")).replace(re.escape("..."), ".*"), told), told
        return
    assert picture_size(Path(name)) == (HEIGHT, WIDTH)
    colours = becomes if becomes.ndim == 3 else becomes[..., None].repeat(3, 2)
    grays = np.asarray(Image.fromarray(becomes).convert("L"))
    assert distance(read_picture(Path(name), Form((HEIGHT, WIDTH), 3)).permute(1, 2, 0), colours) < NEAR
    assert distance(read_picture(Path(name), Form((HEIGHT, WIDTH), 1))[0], grays) < NEAR
    assert distance(np.asarray(read_image(Path(name), 3)), colours) < NEAR
    for part in (2, 8):
        size = (HEIGHT // part, WIDTH // part)
        small = np.asarray(Image.fromarray(colours).resize(size[::-1], Image.Resampling.BILINEAR))
        assert distance(read_picture(Path(name), Form(size, 3)).permute(1, 2, 0), small) < NEAR


def distance(one: Any, other: Array) -> float:
    return float(np.abs(np.asarray(one).astype(float) - other).mean())


def test_a_disc_stays_round(tmp_path) -> None:
    """60 pixels in 300x60: crop and pad keep the ratio of its sides, squash does not."""
    wide = Image.new("RGB", (300, 60))
    ImageDraw.Draw(wide).ellipse((120, 0, 179, 59), fill="white")
    wide.save(tmp_path / "wide.png")
    wide.rotate(90, expand=True).save(tmp_path / "high.png")
    for name in ("wide.png", "high.png"):
        found = {fit: disc(read_picture(tmp_path / name, Form((30, 30), 1, fit))[0]) for fit in ("crop", "pad", "squash")}
        squashed = (30, 6) if name == "wide.png" else (6, 30)
        assert {fit: sides for fit, (sides, _) in found.items()} == {"crop": (30, 30), "pad": (6, 6), "squash": squashed}
        assert all(centre == (15, 15) for _, centre in found.values())
    assert disc(read_picture(tmp_path / "wide.png", Form((12, 60), 1))[0]) == ((12, 12), (6, 30))


def disc(pixels: torch.Tensor) -> tuple[tuple[int, int], tuple[float, float]]:
    """Height and width of what is white, and where its centre is."""
    rows, columns = np.nonzero(pixels.numpy() > 127)
    ends = [(int(values.min()), int(values.max()) + 1) for values in (rows, columns)]
    return tuple(high - low for low, high in ends), tuple((high + low) / 2 for low, high in ends)  # type: ignore[return-value]


def test_each_new_pixel_is_a_mean_of_those_that_it_covers() -> None:
    stripes = Image.fromarray(np.tile(np.array([[0, 255]], np.uint8), (400, 200)))
    for size in ((100, 100), (57, 57), (10, 10)):  # without a mean, columns would be black or white
        assert (as_pixels(stripes, Form(size, 1))[..., 1:-1].float() - 127.5).abs().max() < 10


@pytest.mark.parametrize("size", [(300, 500), (100, 150), (40, 40), (9, 30)])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 30}, {"subsampling": 0}, {"keep_rgb": True}, {"exif": lying(6)[1]}]
)
def test_one_file_has_the_same_pixels_whichever_way_it_is_read(tmp_path, monkeypatch, size, options) -> None:
    """JPEG is decoded by simplejpeg where Pillow would give the same, and by Pillow where a file is odd."""
    path = tmp_path / "photo.jpg"
    photo().resize((500, 300), Image.Resampling.BICUBIC).effect_spread(3).save(path, **{"quality": 90, **options})
    for form in (Form(size, 3), Form(size, 1, "pad")):
        pixels = read_picture(path, form)
        preprocessing = Preprocessing("photos", form, size, [0.0], [1 / 255])
        with Image.open(path) as image:
            others = [as_pixels(image, form), as_trained(path, form), ImageFiles([path], form).decode(0)]
            assert torch.allclose(preprocessing([path, str(path), image]), pixels.float())
            assert image.size == (500, 300) and image.getpixel((499, 299))  # it is still whole
        assert all(torch.equal(other, pixels) for other in others)
        with monkeypatch.context() as patch:
            patch.setattr(reading, "_decoded_faster", lambda image: None)
            assert torch.equal(read_picture(path, form), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"])
def test_an_image_in_memory_of_any_mode(mode) -> None:
    form = Form((HEIGHT, WIDTH), 3)
    gray = Image.new("RGB", (WIDTH, HEIGHT), (200, 200, 200))
    like = {"I": gray.convert("L"), "F": gray.convert("L"), "I;16": gray.convert("L"), "P": gray.quantize(4), "PA": gray.quantize(4)}
    image = like.get(mode, gray).convert(mode)
    expected = {"1": (0, 255), "I;16": (0, 0)}.get(mode, (197, 203))  # in 16 bits 200 is nearly black; one bit is dithered
    assert expected[0] <= as_pixels(image, form).min() <= as_pixels(image, form).max() <= expected[1]
    assert torch.equal(as_pixels(as_gray_or_colour(image, 3), form), as_pixels(image, form))


def test_what_is_a_picture_by_its_name() -> None:
    pictures = "jpg JPEG jpe jfif png apng gif webp bmp tif TIFF pgm ppm avif heic HEIF jp2 tga ico psd qoi dng CR2 nef arw"
    assert [suffix for suffix in pictures.split() if not is_picture_name(Path(f"a.{suffix}"))] == []
    others = "eps ps pdf wmf emf svg txt csv h5 mpg mp4 npz ini db json"
    assert [suffix for suffix in others.split() if is_picture_name(Path(f"a.{suffix}"))] == [] and not is_picture_name(Path("png"))


def test_a_heic_without_its_package_names_it(tmp_path, monkeypatch) -> None:
    for name in ("photo.heic", "photo.jpg"):
        (tmp_path / name).write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(100))
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)  # where another test has opened one
        monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])
        with pytest.raises(DataError, match=r"the package pillow-heif is not installed; pip install -e '\.\[heic\]'"):
            read_picture(tmp_path / name, Form((8, 8), 3))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the most memory that a process held is read from /proc")
@pytest.mark.parametrize(("options", "most"), [({"format": "JPEG"}, 60), ({"format": "PNG", "compress_level": 1}, 450)])
def test_a_large_picture_takes_no_more_memory_than_its_pixels(tmp_path, options, most) -> None:
    """96 million pixels: the file's own decoder needs four bytes for each, and for a JPEG much less."""
    Image.new("RGB", (12_000, 8_000), (90, 120, 200)).save(tmp_path / "large", **options)
    assert memory_of(lambda: read_picture(tmp_path / "large", Form((224, 224), 3))) < most


def memory_of(action: Callable[[], Any]) -> int:
    """The most memory (MB) that it takes beyond what the process holds."""

    def held(name: str) -> int:
        return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))[1])  # type: ignore[index]

    Path("/proc/self/clear_refs").write_text("5", "utf-8")
    before = held("VmRSS")
    action()
    return (held("VmHWM") - before) // 1024
