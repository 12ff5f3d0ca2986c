"""DICOM objects made from predictions."""
