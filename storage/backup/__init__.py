"""A consistent copy of ledger, inbox and outbox, made while the service runs; and the way back."""

from cxr_triage.storage.backup.making import back_up
from cxr_triage.storage.backup.manifest import Kept, Manifest, Problem
from cxr_triage.storage.backup.restoring import Restored, damaged, restore, verify
from cxr_triage.storage.backup.source import Advance, Service, in_silence

__all__ = [
    "Advance",
    "Kept",
    "Manifest",
    "Problem",
    "Restored",
    "Service",
    "back_up",
    "damaged",
    "in_silence",
    "restore",
    "verify",
]
