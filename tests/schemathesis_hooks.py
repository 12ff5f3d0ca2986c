"""What schemathesis is told of the OpenAPI document: its generator does not know the Native DICOM Model.

It would send `<data>` for it, which is refused as it should be; data sets in XML have tests of their own.
"""

from typing import Any

import schemathesis


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Take the XML payloads of requests out."""
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            operation.get("requestBody", {"content": {}})["content"].pop("application/dicom+xml", None)
