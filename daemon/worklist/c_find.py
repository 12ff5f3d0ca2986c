"""C-FIND as both ends of it say it: SOP Classes, transfer syntaxes and statuses."""

from typing import Final

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

#: PS3.4 Table K.5-1.
MODALITY_WORKLIST_FIND: Final = UID("1.2.840.10008.5.1.4.31")
#: PS3.4 Table C.6.2.3-1.
STUDY_ROOT_FIND: Final = UID("1.2.840.10008.5.1.4.1.2.2.1")
#: In the order of our preference.
TRANSFER_SYNTAXES: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

#: PS3.4 Tables C.4-1 and K.4-1.
SUCCESS: Final = 0x0000
PENDING: Final = 0xFF00
PENDING_WITHOUT_SOME_KEYS: Final = 0xFF01
CANCELLED: Final = 0xFE00
OUT_OF_RESOURCES: Final = 0xA700
IDENTIFIER_DOES_NOT_MATCH: Final = 0xA900
UNABLE_TO_PROCESS: Final = 0xC000
