"""Training data: what the manifest says, and nothing that it does not."""

from pathlib import Path

import numpy as np
import pytest

from cxr_triage.model.findings import LOCATIONS
from cxr_triage.training.data import DataError, Region, locations_of, read_mask, read_samples, split_of
from cxr_triage.training.targets import ABNORMAL_OUTPUT, OUTPUTS, targets_of
from miniature import drawn_chest, miniature_folder


def test_split_is_stable() -> None:
    """The hash of these keys never changes, whatever is added to the data."""
    assert [split_of(f"nih/nih{number:05d}") for number in (1, 2, 3, 5, 8)] == [
        "validation",
        "train",
        "train",
        "validation",
        "train",
    ]


def test_split_shares() -> None:
    """About 70, 10 and 20 percent of the patients."""
    splits = [split_of(f"source/{number}") for number in range(5000)]
    shares = [splits.count(split) / 50 for split in ("train", "validation", "test")]
    assert np.allclose(shares, (70, 10, 20), atol=2)


def test_samples_carry_what_the_manifest_says(tmp_path: Path) -> None:
    """Labels, masks, regions and reference predictions, by source."""
    samples = {sample.id: sample for sample in read_samples(miniature_folder(tmp_path / "data"))}
    assert len(samples) == 4 * 24
    assert samples["nih0"].regions == (Region(label="Mass", x0=0.2, y0=0.2, x1=0.3, y1=0.3),)
    assert samples["nih0"].abnormal is True
    assert samples["wingspan3"].abnormal is None
    assert samples["wingspan3"].ctr == 0.4
    assert samples["kermany1"].labels == {"no_finding": True, "Pneumonia": False}
    assert samples["nih4"].patient == "nih/p4"
    assert samples["nih4"].reference is not None


def test_mask_bits_are_the_patients_sides(tmp_path: Path) -> None:
    """Bit 1 is the left lung, which lies on the image's right."""
    folder = miniature_folder(tmp_path / "data", patients=1)
    assert np.array_equal(read_mask(folder / "masks" / "jsrt0.png"), drawn_chest()[1])


def test_unknown_labels_are_masked_not_zero(tmp_path: Path) -> None:
    """A source that does not carry a label says nothing of it."""
    samples = read_samples(miniature_folder(tmp_path / "data", patients=1))
    targets = targets_of(samples)
    known = {sample.source: row for sample, row in zip(samples, ~np.isnan(targets.abnormality), strict=True)}
    assert {name for name, here in zip(OUTPUTS, known["jsrt"], strict=True) if here} == {"Nodule_jsrt"}
    assert {name for name, here in zip(OUTPUTS, known["kermany"], strict=True) if here} == {"Pneumonia_paediatric"}
    assert not known["wingspan"].any()
    assert known["nih"][OUTPUTS.index(ABNORMAL_OUTPUT)]


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ([Region(label="Mass", x0=0.2, y0=0.1, x1=0.3, y1=0.2)], {"right", "fifth_1"}),
        ([Region(label="Mass", x0=0.7, y0=0.7, x1=0.8, y1=0.8)], {"left", "fifth_5"}),
        (
            [
                Region(label="Opacity", x0=0.1, y0=0.2, x1=0.45, y1=0.7),
                Region(label="Opacity", x0=0.55, y0=0.2, x1=0.9, y1=0.7),
            ],
            {"left", "right", "fifth_3", "diffuse", "multiple"},
        ),
    ],
)
def test_boxes_become_locations_in_the_patients_sense(regions: list[Region], expected: set[str]) -> None:
    """Left and right are the patient's; fifths count from the apex."""
    assert {name for name, here in locations_of(regions).items() if here} == expected
    assert set(expected) <= set(LOCATIONS)


def test_missing_manifest_says_what_to_do(tmp_path: Path) -> None:
    """A folder that is not one."""
    with pytest.raises(DataError, match=r"name a folder that has a manifest\.csv"):
        read_samples(tmp_path)


def test_missing_image_is_counted(tmp_path: Path) -> None:
    """Never skipped in silence."""
    folder = miniature_folder(tmp_path / "data", patients=1)
    (folder / "images" / "nih0.png").unlink()
    with pytest.raises(DataError, match=r"1 images of .* do not exist"):
        read_samples(folder)


def test_missing_column_names_line_and_column(tmp_path: Path) -> None:
    """A manifest of another layout."""
    folder = miniature_folder(tmp_path / "data", patients=1)
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("Hernia", "Hiatus"))
    with pytest.raises(DataError, match=r"line 2: KeyError\('Hernia'\)"):
        read_samples(folder)
