"""One instance, from bytes to prediction: no threads, no sockets, no database.

file --header--> InstanceHeader                         (the study appears on the reading list)
file --pixels--> Radiograph --gate--> network --> Prediction
                               |
                               +--> Refusal              (the ordered priority stays)
"""

from collections.abc import Callable
from pathlib import Path

from cxr_triage.daemon.indexing import read_instance_header
from cxr_triage.model.errors import UnreadableImageError
from cxr_triage.model.prediction import Prediction, Refusal
from cxr_triage.model.radiograph import Radiograph, read_radiograph
from cxr_triage.model.suitability import check_radiograph
from cxr_triage.storage.image_records import InstanceHeader

#: `Predictor.predict`: the network and the gate behind it.
Predict = Callable[[Radiograph], Prediction]


def index_file(path: Path) -> InstanceHeader | Refusal:
    """What the ledger must know of an image, or why it is no image."""
    try:
        return read_instance_header(path)
    except UnreadableImageError as error:
        return _unreadable(error)


def score_file(path: Path, predict: Predict) -> Prediction | Refusal:
    """What the network says of an image, or why it is not asked. A prediction may carry a refusal of its own."""
    try:
        radiograph = read_radiograph(path)
    except UnreadableImageError as error:
        return _unreadable(error)
    return check_radiograph(radiograph) or predict(radiograph)


def _unreadable(error: UnreadableImageError) -> Refusal:
    return Refusal(reason="unreadable", explanation=str(error))
