"""Predictions -> DICOM objects that a PACS keeps: one SEG per image, one SR per study revision."""
