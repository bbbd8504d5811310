"""The article's program as it describes it, in one plain script: what a reader would have, and what we measure ourselves against.

Residual blocks with 3x3 shortcuts, layers [2,2,2] of 16, 32 and 64 channels; MNIST through torchvision's image by image transforms;
Adam at 0.001, batches of 32. Its test images are 28x28, which its pooling layer cannot take: they are padded to 32 here.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


class ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
        self.conv2, self.bn2 = conv3x3(out_channels, out_channels), nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        changes = stride != 1 or in_channels != out_channels
        self.downsample = nn.Sequential(conv3x3(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, layers: tuple[int, int, int] = (2, 2, 2), num_classes: int = 10) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = conv3x3(1, 16), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        self.layer1 = self.make_layer(16, 16, layers[0], 1)
        self.layer2 = self.make_layer(16, 32, layers[1], 2)
        self.layer3 = self.make_layer(32, 64, layers[2], 2)
        self.avg_pool, self.fc = nn.AvgPool2d(8), nn.Linear(64, num_classes)

    def make_layer(self, in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = ResidualBlock(in_channels, out_channels, stride)
        return nn.Sequential(first, *(ResidualBlock(out_channels, out_channels) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn(self.conv(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.fc(self.avg_pool(out).flatten(1))


def training_images(root: str) -> datasets.MNIST:
    steps = [transforms.Pad(4), transforms.RandomHorizontalFlip(), transforms.RandomCrop(32), transforms.ToTensor()]
    return datasets.MNIST(root, train=True, transform=transforms.Compose(steps), download=True)


def images_to_test(root: str) -> datasets.MNIST:
    return datasets.MNIST(root, train=False, transform=transforms.Compose([transforms.Pad(2), transforms.ToTensor()]))


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader, device: torch.device) -> float:
    model.eval()
    right = sum(int((model(images.to(device)).argmax(1) == labels.to(device)).sum()) for images, labels in loader)
    model.train()
    return right / len(loader.dataset)  # type: ignore[arg-type]


def train(root: str, seed: int, is_over: Callable[[int, float], bool], log_every: int = 100) -> tuple[nn.Module, torch.device]:
    """Until `is_over(steps, seconds of training)`; prints the time at the first step, at each `log_every` and at the last."""
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = DataLoader(training_images(root), batch_size=32, shuffle=True)
    model = ResNet().to(device)
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=0.001)
    step, started = 0, time.perf_counter()
    while True:
        for images, labels in loader:
            loss = criterion(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            is_last = is_over(step, time.perf_counter() - started)
            if step == 1 or step % log_every == 0 or is_last:
                print(f"step {step} at {time.time():.3f} loss {loss.item():.4f}", flush=True)
            if is_last:
                return model, device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of training; without it, by seconds")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training")
    parser.add_argument("--test", action="store_true", help="print the test accuracy at the end")
    chosen = parser.parse_args()
    over = lambda step, seconds: step >= chosen.steps if chosen.steps else seconds >= chosen.seconds  # noqa: E731
    model, device = train(chosen.data, chosen.seed, over)
    if chosen.test:
        print(f"test accuracy {accuracy(model, DataLoader(images_to_test(chosen.data), batch_size=500), device):.4f}")


if __name__ == "__main__":
    main()
