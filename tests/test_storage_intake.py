"""Taking images in: once, also when they come twice."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from builders import MORNING, received_instance
from cxr_triage.model.errors import StorageError
from cxr_triage.model.prediction import Refusal
from cxr_triage.storage.database import Database
from cxr_triage.storage.image_records import InstanceState, KnownContent, Receipt
from cxr_triage.storage.ledger import Intake
from steps import Steps


def test_new_image_waits_to_be_indexed(steps: Steps) -> None:
    """It is known from then on, and handed out as it was received."""
    image = received_instance()
    assert not steps.intake.known(image.sop_instance_uid, image.sha256)
    assert steps.intake.record_received(image) is Receipt.NEW
    assert steps.intake.known(image.sop_instance_uid, image.sha256)
    claim = steps.claim_to_index()
    assert (image.sop_instance_uid, image.path, None) == (claim.sop_instance_uid, claim.path, claim.study_instance_uid)


def test_same_bytes_again_change_nothing(steps: Steps) -> None:
    """The ledger keeps the first file and counts one image."""
    image = received_instance()
    steps.intake.record_received(image)
    again = received_instance(sop_instance_uid=image.sop_instance_uid, sha256=image.sha256)
    assert steps.intake.record_received(again) is Receipt.SAME_BYTES
    counts = steps.housekeeping.counts()
    assert (counts.instances[InstanceState.RECEIVED], counts.other_bytes) == (1, 0)
    assert steps.claim_to_index().path == image.path


def test_other_bytes_are_kept_beside_the_first_and_flagged(steps: Steps) -> None:
    """The same SOP Instance UID with another content is another image of its own."""
    image = steps.receive()
    other = received_instance(sop_instance_uid=image.sop_instance_uid)
    assert steps.intake.record_received(other) is Receipt.OTHER_BYTES
    counts = steps.housekeeping.counts()
    assert (counts.instances[InstanceState.RECEIVED], counts.other_bytes) == (2, 1)
    assert {claim.path for claim in steps.scoring.claim_to_index("owner", 10)} == {image.path, other.path}


def test_file_that_was_lost_is_replaced_once(steps: Steps) -> None:
    """Of two associations that both find it gone, one brings the new file."""
    image = steps.receive()
    first, second = (received_instance(sop_instance_uid=image.sop_instance_uid, sha256=image.sha256) for _ in range(2))
    assert steps.intake.record_received(first, lost=image.path) is Receipt.NEW
    assert steps.intake.record_received(second, lost=image.path) is Receipt.SAME_BYTES
    assert steps.intake.known(image.sop_instance_uid, image.sha256) == KnownContent(first.path)
    assert steps.claim_to_index().path == first.path


def test_unsuitable_image_is_read_again_when_it_is_sent_after_its_time(steps: Steps) -> None:
    """So that it can be had again under another network, after `replay` said that its file is gone."""
    image = steps.receive()
    steps.scoring.record_unsuitable(steps.claim_to_index(), Refusal(reason="not_frontal", explanation="Lateral."))
    files = steps.housekeeping.forgettable_files(MORNING + timedelta(days=1))
    steps.housekeeping.record_forgotten(files)
    assert steps.intake.known(image.sop_instance_uid, image.sha256) is None
    again = received_instance(sop_instance_uid=image.sop_instance_uid, sha256=image.sha256)
    assert steps.intake.record_received(again) is Receipt.NEW
    assert steps.claim_to_index().path == again.path


def test_scored_image_is_not_stored_again_after_its_time(steps: Steps) -> None:
    """Its result stands, and its file was removed on purpose."""
    image = steps.score("1.2.3")
    steps.report("1.2.3")
    steps.deliver()
    steps.reading_list.finish("1.2.3", actor="reader")
    steps.housekeeping.record_forgotten(steps.housekeeping.forgettable_files(MORNING + timedelta(days=1)))
    assert steps.intake.known(image.sop_instance_uid, image.sha256) == KnownContent(None)
    again = received_instance(sop_instance_uid=image.sop_instance_uid, sha256=image.sha256)
    assert steps.intake.record_received(again) is Receipt.SAME_BYTES


def test_same_image_at_the_same_time_is_taken_in_once(database: Database) -> None:
    """Two associations send the same and other bytes of one UID at once: one NEW, one OTHER_BYTES, else SAME_BYTES."""
    first = received_instance()
    second = received_instance(sop_instance_uid=first.sop_instance_uid)
    with ThreadPoolExecutor(8) as threads:
        receipts = list(threads.map(Intake(database).record_received, [first, second] * 8))
    assert [receipts.count(receipt) for receipt in (Receipt.NEW, Receipt.OTHER_BYTES, Receipt.SAME_BYTES)] == [1, 1, 14]


def test_text_that_a_database_cannot_hold_is_still_taken_in(steps: Steps) -> None:
    """NUL and a lone surrogate in an AE title cost the character, not the image."""
    steps.receive(received_instance(calling_ae_title="CR\x00ROOM\udce9"))
    assert steps.claim_to_index().attempt == 1


def test_time_without_a_zone_is_refused(steps: Steps) -> None:
    """Nobody could say when that was; the refusal comes as our error, and nothing is written."""
    with pytest.raises(StorageError):
        steps.intake.record_received(received_instance(received_at=MORNING.replace(tzinfo=None)))
    assert steps.housekeeping.counts().instances[InstanceState.RECEIVED] == 0


def test_times_come_back_as_utc(steps: Steps) -> None:
    """To the microsecond, on both databases."""
    received_at = MORNING + timedelta(microseconds=123456)
    steps.receive(received_instance(received_at=received_at))
    assert steps.housekeeping.counts().oldest_unscored_at == received_at
