"""The modalities: each takes the next association, a good one and a bad one in turn, until all are through."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from daemons import SUCCESS
from journal import Sent
from soak.aborts import BadAssociation, RejectedError
from soak.images import SoakStudy, sent

#: What a good association carries, so that images and associations are as many, with half of these broken off.
IMAGES_PER_STUDY: Final = 2
#: Only so that a daemon that refuses everything fails the run.
ATTEMPTS: Final = 50


@dataclass(kw_only=True)
class Books:
    """What the senders know; every change is under the lock."""

    #: By Study Instance UID: images answered with success.
    acknowledged: dict[str, list[Sent]] = field(default_factory=dict)
    #: Images that were never sent as a whole.
    broken_off: list[Sent] = field(default_factory=list)
    #: Images acknowledged.
    images: int = 0
    #: Associations that were begun again, since the daemon refused or ended them.
    repeated: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Senders:
    """A few threads; they never run ahead of the daemon by more than a few images, as its inbox would only grow."""

    def __init__(self, port: int, *, count: int, delivered: Callable[[], int], most_waiting: int, step: int) -> None:
        """Describe them; `send` lets them loose.

        Args:
            port: the daemon's.
            count: associations at the same time.
            delivered: tells how many images have their SEG at the PACS.
            most_waiting: images that may be between here and the PACS.
            step: how small the images are, see `SoakStudy.fresh`.
        """
        self.books = Books()
        self._port = port
        self._count = count
        self._delivered = delivered
        self._most_waiting = most_waiting
        self._step = step
        self._next = 0
        self._last = 0
        self._errors: list[BaseException] = []

    @property
    def associations(self) -> int:
        """How many were begun."""
        return self._next

    def send(self, associations: int, *, meanwhile: Callable[[], None]) -> None:
        """Run so many more associations, and `meanwhile` again and again, until all are through."""
        self._last += associations
        threads = [threading.Thread(target=self._work, name=f"sender-{number}") for number in range(self._count)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            meanwhile()
            time.sleep(0.1)
        for error in self._errors:
            raise error

    def _work(self) -> None:
        try:
            while not self._errors and (number := self._take()) is not None:
                if number % 2:
                    self._break_off(number // 2)
                else:
                    self._deliver(number // 2)
        except BaseException as error:  # noqa: BLE001 - raised again where the threads are joined
            self._errors.append(error)

    def _take(self) -> int | None:
        with self.books.lock:
            if self._next >= self._last:
                return None
            self._next += 1
            return self._next - 1

    def _break_off(self, number: int) -> None:
        [image] = SoakStudy.fresh(number, 1, step=self._step).images
        with self.books.lock:
            self.books.broken_off.append(sent(image))
        bad = BadAssociation.numbered(number, image, self._port)
        self._try(lambda: _has_run(bad))

    def _deliver(self, number: int) -> None:
        while self.books.images - self._delivered() > self._most_waiting and not self._errors:
            time.sleep(0.1)
        study = SoakStudy.fresh(number, IMAGES_PER_STUDY, step=self._step)
        left = list(study.images)
        self._try(lambda: self._associate(study.study_instance_uid, left))

    def _try(self, associate: Callable[[], bool]) -> None:
        for _ in range(ATTEMPTS):
            if associate():
                return
            with self.books.lock:
                self.books.repeated += 1
            time.sleep(1)
        raise AssertionError(f"{ATTEMPTS} attempts at an association were not enough")

    def _associate(self, study: str, left: list[Dataset]) -> bool:
        """Send as many of the images as are taken, and release; whether none is left."""
        ae = AE(ae_title="GOODMODALITY")
        ae.add_requested_context(Verification)
        for sop_class in {image.SOPClassUID for image in left}:
            ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", self._port, ae_title="CXRTRIAGE")
        while association.is_established and left:
            if association.send_c_store(left[0]).get("Status") != SUCCESS:
                break
            with self.books.lock:
                self.books.acknowledged.setdefault(study, []).append(sent(left.pop(0)))
                self.books.images += 1
        if association.is_established:
            association.release()
        return not left


def _has_run(bad: BadAssociation) -> bool:
    try:
        bad.run()
    except RejectedError:
        return False
    return True
