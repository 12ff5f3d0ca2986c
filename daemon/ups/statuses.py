"""What a request for a procedure step is answered with, in one table: every status that we give, with its clause."""

from typing import Final

from cxr_triage.daemon.answers import Answered

#: PS3.7 Annex C.
SUCCESS: Final = 0x0000
NO_SUCH_ATTRIBUTE: Final = 0x0105
INVALID_ATTRIBUTE_VALUE: Final = 0x0106
PROCESSING_FAILURE: Final = 0x0110
DUPLICATE_SOP_INSTANCE: Final = 0x0111
INVALID_ARGUMENT_VALUE: Final = 0x0115
INVALID_OBJECT_INSTANCE: Final = 0x0117
MISSING_ATTRIBUTE: Final = 0x0120
MISSING_ATTRIBUTE_VALUE: Final = 0x0121
NO_SUCH_ACTION_TYPE: Final = 0x0123
RESOURCE_LIMITATION: Final = 0x0213

#: PS3.4 Table CC.2.7-1 (N-GET) and CC.2.6-1 (N-SET).
OPTIONAL_ATTRIBUTES_UNSUPPORTED: Final = 0x0001
#: PS3.4 Table CC.2.5-1 (N-CREATE).
CREATED_WITH_MODIFICATIONS: Final = 0xB300
#: PS3.4 Table CC.2.1-2 (N-ACTION, change state) and CC.2.2-2 (request cancel).
ALREADY_CANCELED: Final = 0xB304
ALREADY_COMPLETED: Final = 0xB306
#: PS3.4 Tables CC.2.1-2 and CC.2.6-1.
NO_LONGER_UPDATED: Final = 0xC300
WRONG_TRANSACTION_UID: Final = 0xC301
ALREADY_IN_PROGRESS: Final = 0xC302
ONLY_CREATE_SCHEDULES: Final = 0xC303
FINAL_STATE_NOT_MET: Final = 0xC304
#: Every table of PS3.4 CC.2.
NO_SUCH_STEP: Final = 0xC307
#: PS3.4 Table CC.2.3-3 (subscriptions).
UNKNOWN_RECEIVER: Final = 0xC308
#: PS3.4 Table CC.2.5-1.
NOT_SCHEDULED: Final = 0xC309
#: PS3.4 Tables CC.2.1-2 and CC.2.6-1.
NOT_IN_PROGRESS: Final = 0xC310
#: PS3.4 Table CC.2.2-2.
COMPLETED_ALREADY: Final = 0xC311
PERFORMER_NOT_REACHED: Final = 0xC312
#: PS3.4 Table CC.2.3-3.
ACTION_NOT_APPROPRIATE: Final = 0xC314

_NO_STEP: Final = Answered("Specified SOP Instance UID does not exist", "we have no step with this UID")
_NOT_NOW: Final = Answered("Resource Limitation", "the database was not reached: nothing has changed", "ask again")
_UNREADABLE: Final = Answered(
    "Invalid Argument Value", "it cannot be decoded, or says nothing that is asked", "correct it"
)
_WRONG_UID: Final = Answered(
    "The correct Transaction UID was not provided", "it is missing, or another performer's", "only the performer may"
)
_NO_ATTRIBUTE: Final = Answered("No Such Attribute", "an attribute that may not be given here", "leave it out")
_BAD_VALUE: Final = Answered("Invalid Attribute Value", "a value that the attribute cannot have", "correct it")
_NO_VALUE: Final = Answered("Missing Attribute Value", "an attribute that needs a value has none", "give it")

#: All that each operation is answered with.
CREATE_ANSWERS: Final = {
    SUCCESS: Answered("Success", "the step is durably recorded"),
    CREATED_WITH_MODIFICATIONS: Answered(
        "The UPS was created with modifications", "attributes of type 2 were left out: they were added, empty"
    ),
    NO_SUCH_ATTRIBUTE: _NO_ATTRIBUTE,
    INVALID_ATTRIBUTE_VALUE: _BAD_VALUE,
    DUPLICATE_SOP_INSTANCE: Answered("Duplicate SOP Instance", "there is a step with this UID, in whatever state"),
    MISSING_ATTRIBUTE: Answered("Missing Attribute", "an attribute of type 1 was left out", "give it"),
    MISSING_ATTRIBUTE_VALUE: _NO_VALUE,
    INVALID_OBJECT_INSTANCE: Answered("Invalid Object Instance", "its UID is no valid one", "correct it"),
    INVALID_ARGUMENT_VALUE: _UNREADABLE,
    NOT_SCHEDULED: Answered("The provided value of UPS State was not SCHEDULED", "it was another one", "correct it"),
    RESOURCE_LIMITATION: _NOT_NOW,
}
SET_ANSWERS: Final = {
    SUCCESS: Answered("Success", "the step is durably changed"),
    NO_SUCH_ATTRIBUTE: _NO_ATTRIBUTE,
    INVALID_ATTRIBUTE_VALUE: _BAD_VALUE,
    MISSING_ATTRIBUTE: Answered("Missing Attribute", "an item lacks an attribute of type 1", "give it"),
    MISSING_ATTRIBUTE_VALUE: _NO_VALUE,
    INVALID_ARGUMENT_VALUE: _UNREADABLE,
    NO_LONGER_UPDATED: Answered("The UPS may no longer be updated", "it is COMPLETED or CANCELED"),
    WRONG_TRANSACTION_UID: _WRONG_UID,
    NO_SUCH_STEP: _NO_STEP,
    NOT_IN_PROGRESS: Answered(
        "The UPS is not yet in the IN PROGRESS state", "a Transaction UID was given, but nobody has claimed the step"
    ),
    RESOURCE_LIMITATION: _NOT_NOW,
}
GET_ANSWERS: Final = {
    SUCCESS: Answered("Success", "what was asked for; all but the Transaction UID where nothing was named"),
    OPTIONAL_ATTRIBUTES_UNSUPPORTED: Answered(
        "Requested optional Attributes are not supported", "what there is of what was asked for"
    ),
    NO_SUCH_STEP: _NO_STEP,
    RESOURCE_LIMITATION: _NOT_NOW,
}
STATE_ANSWERS: Final = {
    SUCCESS: Answered("Success", "the step is durably in its new state"),
    INVALID_ARGUMENT_VALUE: _UNREADABLE,
    ALREADY_CANCELED: Answered("The UPS is already in the requested state of CANCELED", "as it says"),
    ALREADY_COMPLETED: Answered("The UPS is already in the requested state of COMPLETED", "as it says"),
    NO_LONGER_UPDATED: Answered("The UPS may no longer be updated", "it is COMPLETED or CANCELED"),
    WRONG_TRANSACTION_UID: _WRONG_UID,
    ALREADY_IN_PROGRESS: Answered(
        "The UPS is already IN PROGRESS", "this performer has it already, or another reader has its study"
    ),
    ONLY_CREATE_SCHEDULES: Answered(
        "The UPS may only become SCHEDULED via N-CREATE", "the change to SCHEDULED was asked for", "cancel the step"
    ),
    FINAL_STATE_NOT_MET: Answered(
        "The UPS has not met final state requirements", "what a COMPLETED step must have is missing", "set it first"
    ),
    NO_SUCH_STEP: _NO_STEP,
    NOT_IN_PROGRESS: Answered("The UPS is not yet in the IN PROGRESS state", "nobody has claimed it", "claim it first"),
    RESOURCE_LIMITATION: _NOT_NOW,
}
CANCEL_ANSWERS: Final = {
    SUCCESS: Answered("Success", "a SCHEDULED step is CANCELED; the performer of another one is told of the wish"),
    INVALID_ARGUMENT_VALUE: _UNREADABLE,
    ALREADY_CANCELED: Answered("The UPS is already in the requested state of CANCELED", "as it says"),
    NO_SUCH_STEP: _NO_STEP,
    COMPLETED_ALREADY: Answered("The UPS is already COMPLETED", "as it says"),
    PERFORMER_NOT_REACHED: Answered(
        "The performer cannot be contacted", "the performer has not subscribed to the step, or came by another way"
    ),
    RESOURCE_LIMITATION: _NOT_NOW,
}
SUBSCRIPTION_ANSWERS: Final = {
    SUCCESS: Answered("Success", "durably recorded; a deletion lock is always granted, since steps are not deleted"),
    INVALID_ARGUMENT_VALUE: _UNREADABLE,
    NO_SUCH_STEP: _NO_STEP,
    UNKNOWN_RECEIVER: Answered(
        "Receiving AE-TITLE is Unknown to this SCP", "it has no `[[ups_subscriber]]` table", "have the table added"
    ),
    ACTION_NOT_APPROPRIATE: Answered(
        "Specified action not appropriate for specified instance", "the suspension of one step's events was asked for"
    ),
    RESOURCE_LIMITATION: _NOT_NOW,
}
#: Of an N-ACTION as a whole.
ACTION_ANSWERS: Final = {
    **STATE_ANSWERS,
    **CANCEL_ANSWERS,
    **SUBSCRIPTION_ANSWERS,
    NO_SUCH_ACTION_TYPE: Answered("No Such Action", "its type is not one of 1 to 5", "correct it"),
}
