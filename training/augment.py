"""Random changes that a radiograph may show between two hospitals. No flips: left and right are labels."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional


def random_geometry(count: int, generator: Generator) -> Tensor:
    """Rotation, scale, aspect and shift as (count, 2, 3) affine matrices."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    angle = uniform(-12, 12) * (math.pi / 180)
    scale, aspect = uniform(0.82, 1.18), uniform(0.93, 1.07)
    rows = (
        torch.stack((angle.cos() * scale * aspect, -angle.sin() * scale, uniform(-0.14, 0.14)), dim=1),
        torch.stack((angle.sin() * scale, angle.cos() * scale / aspect, uniform(-0.14, 0.14)), dim=1),
    )
    return torch.stack(rows, dim=1)


def warp(images_BCHW: Tensor, matrices_B23: Tensor, size: int) -> Tensor:
    """Apply affine matrices, to (B, C, size, size); what comes from outside is 0."""
    grid = functional.affine_grid(matrices_B23, [*images_BCHW.shape[:2], size, size], align_corners=False)
    return functional.grid_sample(images_BCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def random_exposure(images_B1HW: Tensor, generator: Generator) -> Tensor:
    """Gamma, contrast, brightness, blur of a low-resolution detector, and noise."""
    count = images_B1HW.shape[0]

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator) * (high - low) + low

    images = images_B1HW.clamp(0, 1) ** (uniform(-0.6, 0.6).exp())
    images = (images - 0.5) * uniform(0.75, 1.25) + 0.5 + uniform(-0.1, 0.1)
    blurred = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    images = torch.where(uniform(0, 1) < 0.25, blurred, images)
    images = images + torch.randn(images.shape, generator=generator) * uniform(0, 0.03)
    return images.clamp(0, 1)


def random_occlusion(images_B1HW: Tensor, generator: Generator) -> Tensor:
    """Blank one small rectangle in half of the images: markers, electrodes and burned-in text must not decide."""
    images = images_B1HW.clone()
    size = images.shape[-1]
    for image in images:
        if torch.rand((), generator=generator) < 0.5:
            height, width = (torch.randint(size // 16, size // 5, (2,), generator=generator)).tolist()
            top, left = (torch.randint(0, size - max(height, width), (2,), generator=generator)).tolist()
            image[:, top : top + height, left : left + width] = torch.rand((), generator=generator)
    return images
