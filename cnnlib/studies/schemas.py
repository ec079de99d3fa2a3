"""The schemas of the records: what a file must hold to be one."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from textwrap import shorten
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from cnnlib.studies.errors import RecordError

RECORD = "record.schema.json"
SEARCH = "search.schema.json"


class OtherFormat(RecordError):
    """A record that another version of the package wrote."""


def refuse_other_format(content: Any, known: int) -> None:
    """Tell a record of another version from a damaged one.

    Raises:
        OtherFormat: if the content says that it is of another format than ``known``.
    """
    found = content.get("format", known) if isinstance(content, dict) else known
    if isinstance(found, int) and found != known:
        raise OtherFormat(f"$.format: {known} was expected, not {found}")


def what_to_do(error: Exception) -> str:
    """Say what to do with a file of which reading ended in an error: hours of training are not to be thrown away."""
    if isinstance(error, OtherFormat):
        return "read it with the version of cnnlib that wrote it, or move it elsewhere and run again"
    return "delete it or fetch it again"


def validate(content: Any, schema: str) -> None:
    """Check values of JSON against a schema, ``RECORD`` or ``SEARCH``.

    Raises:
        OtherFormat: if another version of the package wrote them.
        RecordError: naming the value that does not fit, and why.
    """
    validator = _validator(schema)
    refuse_other_format(content, validator.schema["properties"]["format"]["const"])
    if error := best_match(validator.iter_errors(content)):
        raise RecordError(f"{error.json_path}: {shorten(error.message, 200)}")


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    contents = {
        name: json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8")) for name in (RECORD, SEARCH)
    }
    resources = [(name, DRAFT202012.create_resource(content)) for name, content in contents.items()]
    return Draft202012Validator(contents[schema], registry=Registry().with_resources(resources))
