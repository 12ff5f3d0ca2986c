"""A prediction as rows: it comes back exactly as it went in."""

import math
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from cxr_triage.model.findings import Finding, Measurement, Zone
from cxr_triage.model.prediction import BundleIdentity, Prediction, Remark
from cxr_triage.storage.schema import FindingRow, MeasurementRow, PredictionRow, RemarkRow


class PackedPrediction(NamedTuple):
    """The rows of one prediction."""

    row: PredictionRow
    #: What refers to it.
    parts: list[FindingRow | MeasurementRow | RemarkRow]


def keep(session: Session, prediction: PackedPrediction) -> bool:
    """Write a prediction of an image, in place of the one that there may be; whether there was one."""
    is_replaced = _forget(session, prediction.row.instance_id)
    session.add(prediction.row)
    session.flush()
    session.add_all(prediction.parts)
    session.flush()
    return is_replaced


def _forget(session: Session, instance_id: int) -> bool:
    for part in (FindingRow, MeasurementRow, RemarkRow):
        session.execute(delete(part).where(part.instance_id == instance_id))
    gone = session.execute(
        delete(PredictionRow).where(PredictionRow.instance_id == instance_id).returning(PredictionRow.instance_id)
    )
    return gone.first() is not None


def restore(session: Session, row: PredictionRow) -> Prediction:
    """Read a prediction back."""
    rows = session.scalars(
        select(FindingRow).where(FindingRow.instance_id == row.instance_id).order_by(FindingRow.position)
    ).all()
    return Prediction(
        bundle=BundleIdentity(name=row.bundle_name, version=row.bundle_version, sha256=row.bundle_sha256),
        findings=tuple(_finding(each) for each in rows),
        abnormal_probability=row.abnormal_probability,
        locations=row.locations,
        measurements=_measurements(session, row.instance_id),
        masks_CHW=unpack_bits(row.masks, row.masks_shape),
        saliency_LHW=unpack_bytes(row.saliency, row.saliency_shape),
        saliency_frame=_frame(row.saliency_frame),
        feature_distance=row.feature_distance,
        refusal=None,
        remarks=_remarks(session, row.instance_id),
        regions={each.label: unpack_bits(each.region, row.masks_shape[1:]) for each in rows if each.region is not None},
    )


def pack_bits(bits: NDArray[np.bool_]) -> bytes:
    """Pack an array of any shape: one bit each, compressed."""
    return zlib.compress(np.packbits(bits, axis=None).tobytes())


def unpack_bits(packed: bytes, shape: list[int]) -> NDArray[np.bool_]:
    """Undo `pack_bits`."""
    flat = np.frombuffer(zlib.decompress(packed), np.uint8)
    return np.unpackbits(flat, count=math.prod(shape)).view(np.bool_).reshape(shape)


def pack_bytes(values: NDArray[np.uint8]) -> bytes:
    """Pack an array of any shape: one byte each, compressed."""
    return zlib.compress(values.tobytes())


def unpack_bytes(packed: bytes, shape: list[int]) -> NDArray[np.uint8]:
    """Undo `pack_bytes`."""
    return np.frombuffer(bytearray(zlib.decompress(packed)), np.uint8).reshape(shape)


def packed(instance_id: int, prediction: Prediction, scored_at: datetime) -> PackedPrediction:
    """Pack a prediction into its rows: the slow part, done before the transaction begins."""
    row = PredictionRow(
        instance_id=instance_id,
        scored_at=scored_at,
        bundle_name=prediction.bundle.name,
        bundle_version=prediction.bundle.version,
        bundle_sha256=prediction.bundle.sha256,
        abnormal_probability=float(prediction.abnormal_probability),
        locations={name: float(value) for name, value in prediction.locations.items()},
        masks=pack_bits(prediction.masks_CHW),
        masks_shape=list(prediction.masks_CHW.shape),
        saliency=pack_bytes(prediction.saliency_LHW),
        saliency_shape=list(prediction.saliency_LHW.shape),
        saliency_frame=[float(value) for value in prediction.saliency_frame],
        feature_distance=float(prediction.feature_distance),
    )
    return PackedPrediction(row, list(_parts(instance_id, prediction)))


def _parts(instance_id: int, prediction: Prediction) -> Iterator[FindingRow | MeasurementRow | RemarkRow]:
    for position, finding in enumerate(prediction.findings):
        region_HW = prediction.regions.get(finding.label)
        yield FindingRow(
            instance_id=instance_id,
            position=position,
            label=finding.label,
            probability=float(finding.probability),
            threshold=float(finding.threshold),
            site=finding.zone.site if finding.zone else "",
            third=finding.zone.third if finding.zone else "",
            region=None if region_HW is None else pack_bits(region_HW),
        )
    for position, measurement in enumerate(prediction.measurements):
        yield MeasurementRow(
            instance_id=instance_id,
            position=position,
            name=measurement.name,
            value=float(measurement.value),
            unit=measurement.unit,
            qualifier=measurement.qualifier,
        )
    for position, remark in enumerate(prediction.remarks):
        yield RemarkRow(instance_id=instance_id, position=position, word=remark.word, sentence=remark.sentence)


def _frame(values: list[float]) -> tuple[float, float, float, float]:
    top, left, height, width = values
    return top, left, height, width


def _finding(row: FindingRow) -> Finding:
    zone = Zone(row.site, row.third) if row.site else None
    return Finding(label=row.label, probability=row.probability, threshold=row.threshold, zone=zone)


def _measurements(session: Session, instance_id: int) -> tuple[Measurement, ...]:
    rows = session.scalars(
        select(MeasurementRow).where(MeasurementRow.instance_id == instance_id).order_by(MeasurementRow.position)
    )
    return tuple(Measurement(name=row.name, value=row.value, unit=row.unit, qualifier=row.qualifier) for row in rows)


def _remarks(session: Session, instance_id: int) -> tuple[Remark, ...]:
    rows = session.scalars(select(RemarkRow).where(RemarkRow.instance_id == instance_id).order_by(RemarkRow.position))
    return tuple(Remark(word=row.word, sentence=row.sentence) for row in rows)
