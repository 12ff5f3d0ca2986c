"""Every face of the reading list, while radiographs arrive: equal versions, equal order."""

import json
import re
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon, another, chest_radiographs, send_by_dcmtk, wait_until
from peers import findscu
from postgres import PostgresServer
from upsclient import client

pytestmark = pytest.mark.acceptance

#: As `place_in_words` writes it.
PLACE = re.compile(r"Rank (\d+) of list version (\d+\.\d+)\.")

#: The studies of the list in its order.
Order = tuple[str, ...]


class Faces:
    """The same list by command line, two kinds of C-FIND, and HTTP."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self._daemon = daemon
        self._folder = folder
        #: By version, then by face.
        self.seen: defaultdict[str, dict[str, Order]] = defaultdict(dict)

    def look(self) -> None:
        """Ask each face once."""
        faces: dict[str, Callable[[], tuple[str, Order] | None]] = {
            "worklist": self._command_line,
            "findscu -W": self._modality_worklist,
            "findscu -S": self._study_root,
            "UPS": self._procedure_steps,
            "UPS-RS": self._workitems,
        }
        for name, ask in faces.items():
            shown = ask()
            if shown is not None:
                version, order = shown
                assert self.seen[version].setdefault(name, order) == order

    def _command_line(self) -> tuple[str, Order] | None:
        listed = json.loads(self._daemon.run("worklist", "--json"))
        return listed["list_version"], tuple(row["study"] for row in listed["studies"])

    def _modality_worklist(self) -> tuple[str, Order] | None:
        step = "ScheduledProcedureStepSequence[0].CommentsOnTheScheduledProcedureStep"
        _, answers = findscu(self._daemon.worklist_port, "StudyInstanceUID", step, folder=self._another("mwl"))
        return _in_order(
            (answer.StudyInstanceUID, answer.ScheduledProcedureStepSequence[0].CommentsOnTheScheduledProcedureStep)
            for answer in answers
        )

    def _study_root(self) -> tuple[str, Order] | None:
        keys = ("QueryRetrieveLevel=STUDY", "StudyInstanceUID", "0032,4000")
        folder = self._another("study")
        _, answers = findscu(self._daemon.worklist_port, *keys, folder=folder, options=["-S"])
        return _in_order((answer.StudyInstanceUID, answer.StudyComments) for answer in answers)

    def _procedure_steps(self) -> tuple[str, Order] | None:
        with client(self._daemon.worklist_port) as reader:
            steps = reader.find(StudyInstanceUID="", CommentsOnTheScheduledProcedureStep="")
        return _in_order((step.StudyInstanceUID, step.CommentsOnTheScheduledProcedureStep) for step in steps)

    def _workitems(self) -> tuple[str, Order] | None:
        url = f"http://127.0.0.1:{self._daemon.web_port}/workitems?includefield=0020000D&includefield=00400400"
        asked = urllib.request.Request(url, headers={"Accept": "application/dicom+json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            body, version = answer.read(), answer.headers["CXR-Triage-List-Version"]
        items: list[dict[str, Any]] = json.loads(body) if body else []
        shown = _in_order((item["0020000D"]["Value"][0], item["00400400"]["Value"][0]) for item in items)
        assert shown is None or shown[0] == version
        return shown

    def _another(self, name: str) -> Path:
        return self._folder / f"{name}-{len(list(self._folder.iterdir()))}"


def _in_order(answers: Iterator[tuple[str, str]]) -> tuple[str, Order] | None:
    """Read what a face shows; it comes in the order of its ranks, and all of one version."""
    versions, order = set(), []
    for number, (study, words) in enumerate(answers, start=1):
        place = PLACE.search(words)
        assert place is not None, words
        assert int(place[1]) == number
        versions.add(place[2])
        order.append(str(study))
    if not order:
        return None
    (version,) = versions
    return version, tuple(order)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name a new database: both keep many versions apart from one another."""
    if request.param == "sqlite":
        yield "sqlite:///triage.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create()
    yield server.url(name)
    server.drop(name)


def test_equal_versions_have_equal_order_on_every_face(tmp_path: Path, database: str) -> None:
    """All five show the same order for the same version, also one in which findings have moved studies."""
    images = [another(path, tmp_path) for path in chest_radiographs()[:6]]
    (tmp_path / "answers").mkdir()
    environment = {"CXR_TRIAGE_WORKLIST__UPS": "true", "CXR_TRIAGE_WORKLIST__STUDY_ROOT": "true"}
    environment |= {"CXR_TRIAGE_WEB__UPS": "true"}
    with Daemon(tmp_path, destinations={}, database=database, environment=environment) as daemon:
        faces = Faces(daemon, tmp_path / "answers")
        modality = threading.Thread(target=lambda: [send_by_dcmtk(path, port=daemon.dicom_port) for path in images])
        modality.start()
        while modality.is_alive():
            faces.look()
        modality.join()
        wait_until(lambda: _all_scored(daemon, len(images)), seconds=120, what="all scored")
        faces.look()
    disagreeing = {version: shown for version, shown in faces.seen.items() if len(set(shown.values())) > 1}
    assert disagreeing == {}
    last = faces.seen[max(faces.seen, key=lambda version: tuple(map(int, version.split("."))))]
    assert len(last) == 5
    assert {len(order) for order in last.values()} == {len(images)}
    assert sum(len(shown) > 1 for shown in faces.seen.values()) > 1, "no version but the last was seen by two"


def _all_scored(daemon: Daemon, count: int) -> bool:
    listed = json.loads(daemon.run("worklist", "--json"))["studies"]
    return len(listed) == count and all(row["images"]["scored"] == 1 for row in listed)
