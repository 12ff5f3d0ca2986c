"""What the bundled weights say of one radiograph, written down: `python tests/golden.py` after a new bundle."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Final

from cxr_triage.model.prediction import Prediction
from cxr_triage.model.predictor import Predictor
from cxr_triage.model.radiograph import read_radiograph

#: The demo's first radiograph.
RADIOGRAPH: Final = Path(str(files("cxr_triage.daemon.demo").joinpath("radiographs", "01-acacia-dx.dcm")))
#: Processors round differently; a wrong channel, window or order of labels is far beyond it.
GOLDEN_TOLERANCE: Final = 2e-3


def summary_of(prediction: Prediction) -> dict[str, float]:
    """The numbers of a prediction that a change would move."""
    findings = {finding.label: finding.probability for finding in prediction.findings}
    measured = {measurement.name: measurement.value for measurement in prediction.measurements}
    areas = (float(mask.mean()) for mask in prediction.masks_CHW)
    return {
        **findings,
        **prediction.locations,
        **dict(zip(("left_lung", "right_lung", "heart"), areas, strict=True)),
        "abnormal": prediction.abnormal_probability,
        "cardiothoracic_ratio": measured["cardiothoracic_ratio"],
        "feature_distance": prediction.feature_distance,
        "saliency": float(prediction.saliency_LHW.mean() / 255),
    }


def main() -> None:
    """Write golden_prediction.json."""
    predictor = Predictor.load(None, "cpu")
    prediction = predictor.predict(read_radiograph(RADIOGRAPH))
    rounded = {name: round(value, 4) for name, value in summary_of(prediction).items()}
    golden = {"bundle": predictor.identity.sha256, "prediction": rounded}
    (Path(__file__).parent / "golden_prediction.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
