"""Unified Procedure Step (PS3.4 Annex CC): the reading list, and work that others place, as steps to be claimed."""
