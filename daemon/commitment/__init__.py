"""Storage commitment (PS3.4 Annex J): asked of a PACS for our results, and passed on from a PACS to modalities."""
