"""Makes the bundle that cxr_triage.model.predictor loads."""
