"""Draws a folder of pictures to try things on: shapes on coloured backgrounds, one folder per class, two of them with few pictures.

python docs/make_pictures.py shapes
"""

import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

NUMBERS = {"disc": 120, "ring": 120, "square": 120, "star": 40, "triangle": 15}
CORNERS = {"square": 4, "star": 5, "triangle": 3}


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, number in NUMBERS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            picture(name, rng).save(folder / name / f"{index:03}.jpg", quality=90)
    print(f"{folder}: {sum(NUMBERS.values())} pictures of {len(NUMBERS)} classes")


def picture(name: str, rng: np.random.Generator) -> Image.Image:
    """A shape of any colour, size, place and angle, 224 to 400 pixels per side."""
    width, height = rng.integers(224, 400, 2).tolist()
    image = background(width, height, rng)
    radius = rng.uniform(0.18, 0.4) * min(width, height)
    x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    colour = tuple(rng.permutation([rng.integers(0, 60), rng.integers(0, 256), rng.integers(200, 256)]).tolist())
    draw, box = ImageDraw.Draw(image), (x - radius, y - radius, x + radius, y + radius)
    if name == "disc":
        draw.ellipse(box, fill=colour)
    elif name == "ring":
        draw.ellipse(box, outline=colour, width=int(0.3 * radius))
    else:
        draw.polygon(polygon(CORNERS[name], x, y, radius, rng.uniform(0, 2 * math.pi), is_star=name == "star"), fill=colour)
    grain = rng.normal(0, 8, (height, width, 3))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(1))) + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def background(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Patches of pale colours that run into each other."""
    few = Image.fromarray(rng.integers(110, 190, (3, 3, 3)).astype(np.uint8))
    return few.resize((width, height), Image.Resampling.BICUBIC)


def polygon(corners: int, x: float, y: float, radius: float, angle: float, is_star: bool) -> list[tuple[float, float]]:
    reach = [radius, 0.45 * radius] if is_star else [radius]
    steps = corners * len(reach)
    return [
        (
            x + reach[step % len(reach)] * math.cos(angle + 2 * math.pi * step / steps),
            y + reach[step % len(reach)] * math.sin(angle + 2 * math.pi * step / steps),
        )
        for step in range(steps)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "shapes"))
