"""The modalities: they make images of real radiographs, and push them until they are told success, or give up."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import _config

from chaos.world import World
from daemons import another, chest_radiographs, radiographs, send
from invariants import PLANTED
from journal import Sent

#: Of a hundred images: such as cannot be triaged, such as are sent again, such as come with other bytes under the same
#: UID, and such as nobody sends again when they are not acknowledged.
UNSUITABLE, RESENT, CHANGED, GIVEN_UP = 10, 25, 6, 15
#: With more images unscored than this, only known ones are sent.
BACKLOG = 12
#: A modality that is told to stop brings its image to an end, if it can.
STOP_SECONDS = 180.0

# The file's own bytes are sent: their digest is what the daemon has to have. For all threads, before they start.
_config.STORE_SEND_CHUNKED_DATASET = True


class Modality:
    """One modality, in a thread of its own."""

    def __init__(self, world: World, *, port: int, chance: random.Random, backlog: Callable[[], int]) -> None:
        """Start to push.

        Args:
            world: whose ledgers it writes.
            port: of the daemon.
            chance: its own.
            backlog: how many images wait to be scored.
        """
        self._world = world
        self._port = port
        self._chance = chance
        self._backlog = backlog
        self._stop = threading.Event()
        self._give_up_at = float("inf")
        self._known: list[Path] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: BaseException | None = None
        self._thread.start()

    def stop(self) -> None:
        """Push nothing new; return when the last image is acknowledged or given up."""
        self._give_up_at = time.monotonic() + STOP_SECONDS
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._chance.uniform(0.1, 1.2)):
                if self._known and self._backlog() > BACKLOG:
                    self._push(self._chance.choice(self._known))
                else:
                    self._push_study()
        except BaseException as error:  # noqa: BLE001 - raised again by `stop`
            self._error = error

    def _push_study(self) -> None:
        study = generate_uid()
        for _ in range(self._chance.choice((1, 1, 2, 3))):
            image = another(self._source(), self._world.images, study=study, **PLANTED)
            while not self._push(image) and not self._happens(GIVEN_UP) and time.monotonic() < self._give_up_at:
                time.sleep(0.2)
            self._send_again(image)
            if self._stop.is_set():
                return

    def _send_again(self, image: Path) -> None:
        self._known = [*self._known[-20:], image]
        if self._happens(RESENT):
            self._push(image)
        if self._happens(CHANGED):
            self._push(_with_other_bytes(image))

    def _push(self, image: Path) -> bool:
        """Send once; note before what is offered, and after it what was acknowledged."""
        sent = Sent.file(image)
        self._world.offered.append(sent)
        try:
            acknowledged = send(image, port=self._port)
        except RuntimeError:  # pynetdicom's word for an association that ended before it looked
            return False
        if acknowledged:
            self._world.acknowledged.append(sent)
        return acknowledged

    def _source(self) -> Path:
        return self._chance.choice(radiographs()[-2:] if self._happens(UNSUITABLE) else chest_radiographs())

    def _happens(self, percent: int) -> bool:
        return self._chance.random() * 100 < percent


def _with_other_bytes(image: Path) -> Path:
    """The same SOP Instance UID with something else in it."""
    folder = image.parent / generate_uid()
    folder.mkdir()
    ds = dcmread(image)
    ds.ImageComments = PLANTED["ImageComments"] + " changed"
    changed = folder / image.name
    ds.save_as(changed, enforce_file_format=True)
    return changed
