"""Forged files in the format of saved estimators, with a valid checksum."""

import json
from io import BytesIO
from zipfile import ZipFile

import skops.io

from skbackprop.persistence.save_load import SCHEMA, pack


def members_of(content):
    """Return the members of a zip by name."""
    with ZipFile(BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_of(members):
    """Return a zip of members by name."""
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return file.getvalue()


def node(loader, name, **content):
    """Return a node of a schema: an object of a class or function, by its full name."""
    module, _, own = name.rpartition(".")
    return {"__loader__": loader, "__module__": module, "__class__": own, **content}


def plain(value):
    """Return a node of a schema for a JSON value."""
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


def sequence(*parts, kind="tuple"):
    """Return a node of a schema for a tuple or a list."""
    return node(f"{kind.title()}Node", f"builtins.{kind}", content=list(parts))


def mapping(**parts):
    """Return a node of a schema for a dict with string keys."""
    types = sequence(*[node("TypeNode", "builtins.str")] * len(parts), kind="list")
    return node("DictNode", "builtins.dict", content=parts, key_types=types)


def written(path, schema, **members):
    """Write a file with this schema and further members."""
    whole = {"_skops_version": skops.__version__, "protocol": 2} | schema
    content = {SCHEMA: json.dumps(whole).encode()} | members
    path.write_bytes(pack(zip_of(content)))
    return path
