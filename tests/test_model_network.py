"""The network: shapes, both encoders, and maps that go back where they came from."""

from dataclasses import replace
from typing import Final

import numpy as np
import pytest
import torch

from cxr_triage.model.bundle import EncoderName, NetworkShape, PoolingName
from cxr_triage.model.features import FeatureSpace
from cxr_triage.model.network import EfficientNetLite0Encoder, MultiTaskNetwork, Standardisation
from cxr_triage.model.preparation import Frame, frame_of, prepare, prepare_mask, restore
from miniature import drawn_chest

#: Channels and strides of the light encoder's stages.
CHANNELS: Final = EfficientNetLite0Encoder.stage_channels
STRIDES: Final = (2, 4, 8, 16, 32)


def shape_of(encoder: EncoderName, pooling: PoolingName = "mean") -> NetworkShape:
    """A network for small images."""
    return NetworkShape(encoder=encoder, input_size=64, pooling=pooling, abnormalities=5, locations=9, structures=3)


@pytest.mark.parametrize("encoder", ["densenet121", "efficientnet_lite0"])
@pytest.mark.parametrize("pooling", ["mean", "pyramid"])
def test_output_shapes(encoder: EncoderName, pooling: PoolingName) -> None:
    """Masks at half of the input, statistics of the maps at stride 16."""
    network = MultiTaskNetwork(shape_of(encoder, pooling)).eval()
    outputs = network(torch.rand(2, 1, 64, 64), decoded=1)
    assert outputs.abnormality.shape == (2, 5)
    assert outputs.location.shape == (2, 9)
    assert outputs.mask.shape == (1, 3, 32, 32)
    assert outputs.statistics.shape == (2, 2 * {"densenet121": 1024, "efficientnet_lite0": 112}[encoder])


def test_outlines_alone_are_those_of_the_whole_network() -> None:
    """With blocks of their own, the encoder's deeper ones need not run; and they are no others' business."""
    shape = replace(shape_of("efficientnet_lite0", "pyramid"), own_outlining=True)
    network = MultiTaskNetwork(shape).eval()
    images = torch.rand(2, 1, 64, 64)
    outputs = network(images, decoded=1)
    assert outputs.mask.shape == (1, 3, 32, 32)
    assert torch.allclose(network.outlines(images)[:1], outputs.mask, atol=1e-5)
    assert network.outlining is not None
    for parameter in network.outlining.parameters():
        torch.nn.init.zeros_(parameter)
    changed = network(images, decoded=1)
    assert torch.equal(changed.abnormality, outputs.abnormality)
    assert torch.equal(changed.statistics, outputs.statistics)
    assert not torch.allclose(changed.mask, outputs.mask)


def test_outlines_have_blocks_of_their_own_beside_the_light_encoder_alone() -> None:
    """A card that says otherwise is refused as it is read."""
    with pytest.raises(ValueError, match="beside the encoder densenet121"):
        replace(shape_of("densenet121"), own_outlining=True)


@pytest.mark.parametrize("pooling", ["mean", "pyramid"])
def test_activation_maps_add_up_to_the_logits(pooling: PoolingName) -> None:
    """Each finding's saliency is its logit before pooling but for a constant; sizes that no grid divides included."""
    network = MultiTaskNetwork(shape_of("efficientnet_lite0", pooling)).eval()
    images = torch.rand(2, 1, 96, 96)
    network.standardisation.fit(network(images).read + torch.randn(2, network.pooling.width))
    outputs = network(images)
    sums = network.activation_maps(outputs).sum(dim=(2, 3))
    constants = network.abnormality(-network.standardisation.mean / network.standardisation.deviation)
    assert torch.allclose(sums + constants, outputs.abnormality, atol=1e-5)


def test_heads_read_features_of_one_size() -> None:
    """However large they were, and all together about 1 long; one that hardly varies stays small."""
    standardisation = Standardisation(400)
    read = torch.randn(1000, 400) * torch.logspace(-1, 3, 400) + 7
    read[:, 0] = 5 + 1e-6 * read[:, 0]
    standardisation.fit(read)
    standard = standardisation(read)
    assert torch.allclose(standard.mean(dim=0), torch.zeros(400), atol=1e-4)
    assert torch.allclose(standard[:, 1:].std(dim=0), torch.tensor(1 / 20.0), rtol=1e-3)
    assert torch.allclose(standard.norm(dim=1).mean(), torch.tensor(1.0), atol=0.05)
    assert standard[:, 0].abs().max() < 1e-4


def test_pyramid_sees_where_a_finding_is() -> None:
    """A weight for one cell of the grid answers to that cell alone, and its saliency lies there."""
    network = MultiTaskNetwork(shape_of("efficientnet_lite0", "pyramid")).eval()
    stages = [
        torch.zeros(1, channels, 64 // stride, 64 // stride) for channels, stride in zip(CHANNELS, STRIDES, strict=True)
    ]
    stages[3][0, 0, 3, 0] = 1.0
    with torch.no_grad():
        network.abnormality.weight.zero_()
        pooled = network.pooling(stages)
        network.abnormality.weight[0] = pooled[0]
    maps = network.pooling.spread(stages[-3:], network.abnormality.weight)
    assert int(maps[0, 0].argmax()) == 3 * maps.shape[3]
    assert int((maps[0, 0] != 0).sum()) == 1


def test_square_image_is_kept_whole() -> None:
    """No collimation, no padding."""
    pixels, _ = drawn_chest()
    noise = np.random.default_rng(1).normal(0, 0.05, pixels.shape).astype(np.float32)
    assert frame_of(pixels + noise) == Frame(0, 0, 96, 96, (96, 96))


def test_collimated_borders_are_left_out_and_the_shorter_side_is_padded() -> None:
    """A black frame around the film carries nothing; the chest is never cut."""
    random = np.random.default_rng(1)
    pixels = np.zeros((100, 140), dtype=np.float32)
    pixels[10:90, 20:120] = random.uniform(size=(80, 100))
    frame = frame_of(pixels)
    assert frame == Frame(0, 20, 100, 100, (100, 140))


def test_wide_collimation_is_not_believed() -> None:
    """A uniform half is more likely a white lung than a shutter."""
    pixels = np.zeros((100, 100), dtype=np.float32)
    pixels[:, 50:] = np.random.default_rng(1).uniform(size=(100, 50))
    assert frame_of(pixels) == Frame(0, 0, 100, 100, (100, 100))


def test_window_does_not_depend_on_exposure() -> None:
    """The same film, darker and with less contrast, gives the same input."""
    pixels, _ = drawn_chest()
    frame = frame_of(pixels)
    assert torch.allclose(prepare(pixels, frame, 64), prepare(pixels * 0.3 + 0.1, frame, 64), atol=1e-4)


def test_uniform_image_gives_a_finite_input() -> None:
    """An unexposed film has no window."""
    pixels = np.full((64, 80), 0.5, dtype=np.float32)
    assert bool(prepare(pixels, frame_of(pixels), 32).isfinite().all())


@pytest.mark.parametrize("shape", [(96, 96), (120, 90), (90, 121)])
def test_masks_come_back_to_the_stored_pixel_matrix(shape: tuple[int, int]) -> None:
    """Prepared and restored, a mask lies where it was, to within the coarser grid."""
    mask = np.zeros((1, *shape), dtype=bool)
    mask[:, 30:70, 20:60] = True
    frame = frame_of(np.random.default_rng(1).uniform(size=shape).astype(np.float32))
    restored = restore(prepare_mask(mask, frame, 64) - 0.5, frame).numpy() > 0
    assert restored.shape == mask.shape
    assert 2 * (restored & mask).sum() / (restored.sum() + mask.sum()) > 0.97


def test_feature_distance_tells_strangers() -> None:
    """About 1 for the training set's own kind, far more for others."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.randn(8, 100, generator=generator)
    own = torch.randn(500, 8, generator=generator) @ basis + 0.1 * torch.randn(500, 100, generator=generator)
    space = FeatureSpace.fit(own[:400], axes=8)
    again = FeatureSpace.from_tensors(space.tensors())
    assert float(again.distances(own[400:]).mean()) == pytest.approx(1, abs=0.2)
    assert float(again.distances(torch.randn(50, 100, generator=generator)).min()) > 10
