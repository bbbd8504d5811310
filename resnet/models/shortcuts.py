"""What is added to a block's output: the options A, B and C of He et al. 2015, section 4.1, and the article's."""

import torch.nn.functional as F
from torch import Tensor, nn

from resnet.models.layers import make_conv, make_norm


class ZeroPad(nn.Module):
    """Option A, no parameters: every stride-th pixel; half of the new channels before the old ones, half after, all zero."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        new = out_channels - in_channels
        self.stride, self.before, self.after = stride, new // 2, new - new // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def make_shortcut(kind: str, in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Module | None:
    """None for a plain network. `norm` follows a projection."""
    if kind == "none":
        return None
    if stride == 1 and in_channels == out_channels and kind != "projection_all":
        return nn.Identity()
    if kind == "zero_pad":
        return ZeroPad(in_channels, out_channels, stride)
    kernel_size = 3 if kind == "projection_3x3" else 1
    return nn.Sequential(make_conv(in_channels, out_channels, kernel_size, stride, norm), make_norm(norm, out_channels))
