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


def validate(content: Any, schema: str) -> None:
    """Check values of JSON against a schema, ``RECORD`` or ``SEARCH``.

    Raises:
        RecordError: naming the value that does not fit, and why.
    """
    if error := best_match(_validator(schema).iter_errors(content)):
        raise RecordError(f"{error.json_path}: {shorten(error.message, 200)}")


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    contents = {
        name: json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8")) for name in (RECORD, SEARCH)
    }
    resources = [(name, DRAFT202012.create_resource(content)) for name, content in contents.items()]
    return Draft202012Validator(contents[schema], registry=Registry().with_resources(resources))
