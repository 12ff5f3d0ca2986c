"""What we say of ourselves to those who connect us: DICOM (PS3.2) and IHE statements, made from the code's tables."""
