"""Images of no chest: slices, scans, ultrasound and photographs that installed packages bring along, for the gate."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from sklearn.datasets import load_sample_images

from cxr_triage.model.radiograph import Radiograph
from cxr_triage.training.data import is_dicom, read_image

#: Test files within pydicom's package (none is fetched), and what is on them.
OF_PYDICOM: Final = {
    "CT_small.dcm": "CT slice",
    "693_J2KI.dcm": "CT slice",
    "J2K_pixelrep_mismatch.dcm": "CT slice of a head",
    "MR_small.dcm": "MR slice",
    "examples_overlay.dcm": "MR slice of an abdomen",
    "JPEG2000.dcm": "bone scan",
    "examples_jpeg2k.dcm": "ultrasound",
    "examples_palette.dcm": "ultrasound",
    "examples_rgb_color.dcm": "ultrasound",
    "examples_ybr_color.dcm": "ultrasound",
}
#: Share of the pixels that is shown as black, and as white.
SATURATED: Final = 0.005


def others(paths: Iterable[Path] = ()) -> dict[str, Radiograph]:
    """Images of no chest by name, with headers that say nothing: the image alone has to give it away.

    Args:
        paths: further DICOM files, or images, of no chest.

    Raises:
        OSError: a file cannot be read, or is not an image.
    """
    found = {f"{shown}, {name}": _pixels(Path(str(get_testdata_file(name)))) for name, shown in OF_PYDICOM.items()}
    photographs = load_sample_images()
    for name, colours_HWC in zip(photographs.filenames, photographs.images, strict=True):
        found[f"photograph, {Path(name).name}"] = _stretched(colours_HWC)
    found.update((path.name, _pixels(path)) for path in paths)
    return {name: _without_header(pixels_HW, name) for name, pixels_HW in found.items()}


def _pixels(path: Path) -> NDArray[np.float32]:
    return _stretched(dcmread(path).pixel_array if is_dicom(path) else read_image(path))


def _stretched(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Grey of the first frame, float32 (H, W) in [0, 1]: (H, W), (H, W, colours) or (frames, H, W, colours)."""
    grey = np.asarray(pixels, dtype=np.float32)
    while grey.ndim > 3:
        grey = grey[0]
    if grey.ndim == 3:
        grey = grey.mean(axis=-1)
    black, white = np.quantile(grey, (SATURATED, 1 - SATURATED))
    stretched: NDArray[np.float32] = ((grey - black) / (white - black)).clip(0, 1).astype(np.float32)
    return stretched


def _without_header(pixels_HW: NDArray[np.float32], name: str) -> Radiograph:
    return Radiograph(
        pixels_HW=pixels_HW,
        spacing_mm=None,
        spacing_source=None,
        view="",
        body_part="",
        age_years=None,
        patient_orientation=None,
        sop_instance_uid=name,
        sop_class_uid="",
    )
