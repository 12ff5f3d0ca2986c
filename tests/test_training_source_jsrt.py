"""JSRT with SCR's outlines in their own layout -> a manifest, and each of its faults counted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders import thorax_masks
from cxr_triage.training.data import Region, read_image, read_mask, read_samples
from cxr_triage.training.sources.jsrt import SOURCE, read_raw
from published_sets import film, grey_image, jsrt_folder, problems_of, replace_in, written


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a miniature without faults but a conversion without outlines."""
    folder = jsrt_folder(tmp_path_factory.mktemp("clean") / "jsrt")
    rows, summary = written(SOURCE, folder)
    assert problems_of(summary) == {"missing_mask": (1, ["JPCLN002"])}
    common = {"source": "jsrt", "view": "PA", "reference": "0"}
    assert rows == [
        common
        | {"id": "JPCLN001", "patient": "JPCLN001", "path": "images/JPCLN001.png", "mask": "masks/JPCLN001.png"}
        | {"sex": "M", "age": "53", "no_finding": "0", "Nodule": "1"},
        common
        | {"id": "JPCLN002", "patient": "JPCLN002", "path": str(folder.resolve() / "converted" / "JPCLN002.png")}
        | {"sex": "F", "no_finding": "0", "Nodule": "1"},
        common
        | {"id": "JPCNN001", "patient": "JPCNN001", "path": "images/JPCNN001.png", "mask": "masks/JPCNN001.png"}
        | {"sex": "M", "age": "54", "no_finding": "1", "Nodule": "0"},
    ]
    return folder.parent / "manifest"


def test_raw_films_become_bright_where_dense(clean: Path) -> None:
    """Turned round, and all twelve bits kept."""
    pixels = read_image(clean / "images" / "JPCLN001.png")
    left, right, heart = thorax_masks(2048, 2048)
    assert pixels.shape == (2048, 2048)
    assert pixels[heart].mean() > pixels[~(left | right | heart)].mean() > pixels[(left | right) & ~heart].mean()
    assert np.unique(pixels).size == np.unique(film()).size


def test_outlines_keep_the_patients_sides(clean: Path) -> None:
    """The left lung lies on the image's right; 1024 pixels are brought to the image's 2048."""
    masks = read_mask(clean / "masks" / "JPCLN001.png")
    assert masks.shape == (3, 2048, 2048)
    columns = [float(np.flatnonzero(mask.any(axis=0)).mean()) for mask in masks]
    assert columns[1] < columns[2] < columns[0]
    assert np.array_equal(masks[:, ::2, ::2], thorax_masks(1024, 1024))


def test_nodule_is_a_square_of_its_size(clean: Path) -> None:
    """15 mm at 0.175 mm around (1634, 692) of 2048."""
    sample = read_samples(clean)[0]
    half = 15 / 0.175 / 2
    expected = [(1634 - half) / 2048, (692 - half) / 2048, (1634 + half) / 2048, (692 + half) / 2048]
    (region,) = sample.regions
    assert region.label == "Nodule"
    assert [region.x0, region.y0, region.x1, region.y1] == pytest.approx(expected, abs=1e-4)


def test_nodule_agrees_with_the_published_position(clean: Path) -> None:
    """JPCLN002, 30 mm: the box that a re-publication of the set gives."""
    assert read_samples(clean)[1].regions == (Region(label="Nodule", x0=0.7462, y0=0.4904, x1=0.8299, y1=0.5741),)


def test_line_ends_and_case_do_not_matter(tmp_path: Path) -> None:
    """Copies have been converted; some archives unpack to lower case."""
    folder = jsrt_folder(tmp_path / "jsrt")
    for name in ("CLNDAT_EN.txt", "CNNDAT_EN.TXT"):
        table = folder / "Clinical_Information" / name
        table.write_bytes(table.read_bytes().replace(b"\r", b"\r\n"))
        table.rename(table.with_name(name.lower()))
    rows, _ = written(SOURCE, folder)
    assert [row["id"] for row in rows] == ["JPCLN001", "JPCLN002", "JPCNN001"]


FAULTS = {
    "missing image": ("CLNDAT_EN.txt", "JPCLN002", "JPCLN003", "missing_image", "JPCLN003"),
    "unlisted image": ("CLNDAT_EN.txt", "JPCLN002", "JPCLN001", "unlisted_image", "JPCLN002.png"),
    "listed twice": ("CLNDAT_EN.txt", "JPCLN002", "JPCLN001", "duplicate_id", "JPCLN001"),
    "cut line": ("CNNDAT_EN.TXT", "54   male   non-nodule", "", "unreadable_row", "CNNDAT_EN.TXT line 1"),
    "no age": ("CNNDAT_EN.TXT", "54", "old", "unreadable_age", "JPCNN001: old"),
    "implausible age": ("CLNDAT_EN.txt", "\t53\t", "\t530\t", "implausible_age", "JPCLN001: 530"),
    "position outside": ("CLNDAT_EN.txt", "1634", "2634", "unreadable_box", "JPCLN001 Nodule"),
    "position without numbers": ("CLNDAT_EN.txt", "1634", "left", "unreadable_box", "JPCLN001 Nodule"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_counted_and_named(tmp_path: Path, fault: str) -> None:
    """And the rest is used. Conversions, for speed."""
    table, old, new, kind, name = FAULTS[fault]
    folder = jsrt_folder(tmp_path / "jsrt")
    for raw in sorted((folder / "All247images").iterdir()):
        raw.unlink()
        grey_image(folder / "converted" / f"{raw.stem}.png")
    replace_in(folder / "Clinical_Information" / table, old, new)
    _, summary = written(SOURCE, folder)
    assert problems_of(summary)[kind] == (1, [name])


def test_broken_images_and_masks_are_counted(tmp_path: Path) -> None:
    """A raw file that was cut off, an outline that is no image, one that is empty, one that is missing."""
    folder = jsrt_folder(tmp_path / "jsrt")
    raw = folder / "All247images" / "JPCNN001.IMG"
    raw.write_bytes(raw.read_bytes()[:-2])
    heart = folder / "scratch" / "fold2" / "masks" / "heart" / "JPCLN001.gif"
    heart.write_bytes(b"GIF89a")
    rows, summary = written(SOURCE, folder)
    assert problems_of(summary) == {
        "missing_mask": (1, ["JPCLN002"]),
        "broken_mask": (1, ["JPCLN001"]),
        "broken_image": (1, ["JPCNN001"]),
    }
    assert [row["id"] for row in rows] == ["JPCLN001", "JPCLN002"]
    assert all("mask" not in row for row in rows)


def test_empty_outline_is_no_mask(tmp_path: Path) -> None:
    """It would teach that there is no heart."""
    folder = jsrt_folder(tmp_path / "jsrt")
    heart = folder / "scratch" / "fold2" / "masks" / "heart" / "JPCLN001.gif"
    Image.fromarray(np.zeros((1024, 1024), dtype=np.uint8)).save(heart)
    _, summary = written(SOURCE, folder)
    assert problems_of(summary)["broken_mask"] == (1, ["JPCLN001"])


def test_inverted_conversion_is_said(tmp_path: Path) -> None:
    """A conversion that left the film's sense: lungs brighter than the heart."""
    folder = jsrt_folder(tmp_path / "jsrt")
    (folder / "All247images" / "JPCNN001.IMG").unlink()
    Image.fromarray((film() >> 4).astype(np.uint8)).save(folder / "converted" / "JPCNN001.png")
    _, summary = written(SOURCE, folder)
    assert problems_of(summary)["inverted_image"] == (1, ["JPCNN001"])


def test_raw_file_of_another_size_is_refused(tmp_path: Path) -> None:
    """Rather than read askew."""
    path = tmp_path / "JPCLN001.IMG"
    path.write_bytes(b"\0" * 1000)
    with pytest.raises(ValueError, match="reshape"):
        read_raw(path)
