"""Which place of which version of the list an entry has, in the words that every DICOM face uses."""

from cxr_triage.storage.list_records import ListVersion


def place_in_words(rank: int, version: ListVersion) -> str:
    """Say the place of a study: equal versions, equal order."""
    return f"Rank {rank} of list version {version}."
