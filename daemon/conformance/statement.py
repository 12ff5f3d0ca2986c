"""The DICOM conformance statement as one page, its chapters in the order of PS3.2's template."""

from cxr_triage.daemon.conformance.configuration import configuration
from cxr_triage.daemon.conformance.markdown import contents, text
from cxr_triage.daemon.conformance.negotiation import transfer_syntaxes_table
from cxr_triage.daemon.conformance.objects import objects
from cxr_triage.daemon.conformance.overview import overview
from cxr_triage.daemon.conformance.procedure_steps import procedure_steps
from cxr_triage.daemon.conformance.receiver import receiver
from cxr_triage.daemon.conformance.sender import sender
from cxr_triage.daemon.conformance.terms import terms
from cxr_triage.daemon.conformance.web import web
from cxr_triage.daemon.conformance.worklist import worklist
from cxr_triage.daemon.results.finishing import SOFTWARE_VERSION


def conformance_statement() -> str:
    """Give it as Markdown."""
    after = [
        text("introduction"),
        text("entities", transfer_syntaxes=transfer_syntaxes_table()),
        receiver(),
        sender(),
        worklist(),
        procedure_steps(),
        web(),
        configuration(),
        text("support"),
        objects(),
        terms(),
    ]
    first = overview()
    listed = contents("\n".join([first, *after]))
    return "\n".join([text("head", version=SOFTWARE_VERSION), first, f"## 2 Contents\n\n{listed}\n", *after])
