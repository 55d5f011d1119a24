"""Compress a network of your own, on data sets of your own, in a few lines."""

import torch
from torch.utils.data import DataLoader, TensorDataset, random_split

from triaxis import Budget, Config, compress
from triaxis.data.digits import load_digits
from triaxis.models.cifar import resnet

digits, labels = load_digits()
pixels = torch.from_numpy(digits).float().div(8).sub(1)[:, None]
train, val, test = random_split(TensorDataset(pixels, torch.from_numpy(labels)), [1197, 300, 300])
model = resnet(14, in_channels=1)  # any nn.Module; train it as you do
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for _ in range(5):
    for images, labels in DataLoader(train, 64, shuffle=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

no_flips = {"flip": False, "crop_px": 1, "batch_size": 64}  # a mirrored 2 is no 2
config = Config(collect={"recipe": no_flips}, finetune=no_flips)
result = compress(model, (train, val, test), budget=Budget.macs(fraction=0.5), config=config)
print(result.solution.ratios, result.summary["compressed"]["test_accuracy"], result.report())
