"""What the soak sends: the demo's radiographs, made small, each time under fresh UIDs."""

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom.dsutils import encode

from daemons import chest_radiographs
from journal import Sent


@dataclass(frozen=True, kw_only=True)
class SoakStudy:
    """The images that one association carries: one study."""

    study_instance_uid: str
    images: tuple[Dataset, ...]

    @classmethod
    def fresh(cls, number: int, images: int, *, step: int) -> Self:
        """Make a study that nobody has seen.

        Args:
            number: chooses the radiographs, in turn.
            images: how many.
            step: takes every so many pixels of the demo's 512 x 512. With 2 an image has a quarter of the bytes, and
                the gate still takes all of them.
        """
        study, series, sources = generate_uid(), generate_uid(), _sources(step)
        made = (_again(sources[(number * images + each) % len(sources)], study, series) for each in range(images))
        return cls(study_instance_uid=study, images=tuple(made))


def sent(image: Dataset) -> Sent:
    """What sending an image offers."""
    encoded = encode(image, is_implicit_vr=False, is_little_endian=True)
    assert encoded is not None
    return Sent(str(image.SOPInstanceUID), hashlib.sha256(encoded).hexdigest())


def _again(source: Dataset, study: str, series: str) -> Dataset:
    image = deepcopy(source)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    return image


@cache
def _sources(step: int) -> tuple[Dataset, ...]:
    """The demo's chests, uncompressed and with every `step`-th pixel only."""
    sources = []
    for path in chest_radiographs():
        image = dcmread(path)
        if image.file_meta.TransferSyntaxUID.is_compressed:
            image.decompress()
        pixels = np.ascontiguousarray(image.pixel_array[::step, ::step])
        image.Rows, image.Columns = pixels.shape
        image.PixelData = pixels.tobytes()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if "ImagerPixelSpacing" in image:
            image.ImagerPixelSpacing = [step * float(millimetres) for millimetres in image.ImagerPixelSpacing]
        sources.append(image)
    return tuple(sources)
