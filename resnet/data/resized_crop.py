"""Random parts of images, scaled to one size: as torchvision's RandomResizedCrop draws and scales them."""

import math
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from resnet.data.form import Size
from resnet.data.transforms import to_device

ATTEMPTS = 10  # boxes drawn for an image before its centre is taken


def random_boxes(number: int, size: Size, scale: tuple[float, float], ratio: tuple[float, float], generator: Generator) -> Tensor:
    """Returns top, left, height and width (number, 4) of random parts of images of `size`.

    Area and ratio are drawn up to ten times, until the part lies in the image. Otherwise it is the largest one around the centre.
    """
    height, width = size
    area, shape = torch.rand(2, number, ATTEMPTS, dtype=torch.float64, generator=generator)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
    shape = torch.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * shape)
    sides = torch.stack([(area / shape).sqrt(), (area * shape).sqrt()], 2).round().long()  # (number, attempts, height and width)
    inside = ((sides > 0) & (sides <= torch.tensor(size))).all(2)
    sides = sides[torch.arange(number), inside.long().argmax(1)]  # the first one inside
    room = torch.tensor(size) - sides
    corner = (torch.rand(number, 2, dtype=torch.float64, generator=generator) * (room + 1)).long()
    return torch.where(inside.any(1, keepdim=True), torch.cat([corner, sides], 1), _central_box(size, ratio))


def _central_box(size: Size, ratio: tuple[float, float]) -> Tensor:
    height, width = size
    if width / height < ratio[0]:
        height = max(round(width / ratio[0]), 1)
    elif width / height > ratio[1]:
        width = max(round(height * ratio[1]), 1)
    return torch.tensor([(size[0] - height) // 2, (size[1] - width) // 2, height, width])


def resized_crop(images: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Cuts a box (N, 4: top, left, height, width) out of each uint8 image and scales it to `size`. Each new pixel is a weighted mean of
    those that it covers.

    On a CPU, torch's own operation on bytes is the fastest. Other devices take all images at once, and may round differently.
    """
    if images.device.type != "cpu":
        return resized_by_products(images, boxes, size)

    scaled = torch.empty(len(images), *size, images.shape[1], dtype=torch.uint8).permute(0, 3, 1, 2)  # as a picture's bytes lie

    def one(place: int, box: list[int]) -> None:
        top, left, height, width = box
        part = images[place : place + 1, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)
        scaled[place] = F.interpolate(part, size, mode="bilinear", antialias=True)[0]

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # which wait less for each other than those inside an operation do
        for _ in threads.map(one, range(len(images)), boxes.tolist()):
            pass
    return scaled


def resized_by_products(images: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Does the same as two matrix products: new columns are weighted sums of columns, and, of these in whole numbers, new rows of rows."""
    top, left, height, width = to_device(boxes.T.contiguous(), images.device)
    rows = _weights(top, height, images.shape[-2], size[0])[:, None]
    columns = _weights(left, width, images.shape[-1], size[1])[:, None]
    return (rows @ (images.float() @ columns.mT).round_()).round_().to(torch.uint8)


def _weights(start: Tensor, length: Tensor, there: int, wanted: int) -> Tensor:
    """Returns how much of each of `there` pixels is in each of the `wanted` ones, which share out `length` pixels from `start` on:
    (N, wanted, there). The weights fall linearly with the distance, and are zero from the larger of the two pixels' sides on."""
    step = (length / wanted)[:, None, None]
    centre = start[:, None, None] + step * (torch.arange(wanted, device=start.device)[:, None] + 0.5)
    pixel = torch.arange(there, device=start.device)
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
    weights = (1 - (pixel + 0.5 - centre).abs() / step.clamp(min=1)).clamp(min=0) * inside[:, None]
    return weights / weights.sum(2, keepdim=True)
