"""A peer that proposes everything that DICOM knows, and notes what it gets."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from peers import LOOPBACK
from printed import Pair

#: PS3.8 9.3.2.2: identifiers of presentation contexts are odd numbers up to 255.
CONTEXTS_AT_ONCE: Final = 128


def known(kind: str) -> list[UID]:
    """Give every UID of a kind that pydicom knows (PS3.6 Annex A), retired ones too."""
    return [UID(uid) for uid, (_, what, *_rest) in UID_dictionary.items() if what == kind]


def everything() -> Iterator[Pair]:
    """Every SOP class in every transfer syntax."""
    for sop_class in known("SOP Class"):
        for syntax in known("Transfer Syntax"):
            yield sop_class, syntax


def accepted(
    port: int,
    called: str,
    pairs: Iterable[Pair],
    *,
    calling: str = "ANYBODY",
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> set[Pair]:
    """Propose each in a context of its own; gives what was accepted."""
    left = iter(pairs)
    taken: set[Pair] = set()
    while batch := list(islice(left, CONTEXTS_AT_ONCE)):
        with proposing(port, called, batch, calling=calling, roles=roles) as association:
            taken |= {(str(each.abstract_syntax), each.transfer_syntax[0]) for each in association.accepted_contexts}
    return taken


@contextmanager
def proposing(
    port: int,
    called: str,
    pairs: Iterable[Pair],
    *,
    calling: str = "ANYBODY",
    roles: Sequence[Any] = (),
) -> Iterator[Association]:
    """Ask for an association, established or not."""
    association = AE(calling).associate(
        LOOPBACK,
        port,
        contexts=[build_context(sop_class, syntax) for sop_class, syntax in pairs],
        ae_title=called,
        ext_neg=list(roles),
    )
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
