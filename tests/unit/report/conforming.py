"""Values checked against a JSON Schema, of which pydantic writes a small part."""

from typing import Any

__all__ = ["conforms"]

_TYPES = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list,
    "object": dict, "null": type(None),
}  # fmt: skip


def conforms(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str) -> None:
    """A validator of the part of JSON Schema that the schema is written in."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]] | {"$ref": None}
    if "anyOf" in schema:
        faults = []
        for option in schema["anyOf"]:
            try:
                return conforms(value, option, root, where)
            except AssertionError as fault:
                faults.append(str(fault))
        raise AssertionError("; ".join(faults))
    kind = schema.get("type")
    if kind:
        right = isinstance(value, _TYPES[kind]) and not (kind != "boolean" and value is True)
        assert right, f"{where} is {value!r}: expected {kind}"
    if "enum" in schema:
        assert value in schema["enum"], f"{where} is {value!r}"
    if isinstance(value, list):
        for k, item in enumerate(value):
            own = schema["prefixItems"][k] if "prefixItems" in schema else schema["items"]
            conforms(item, own, root, f"{where}[{k}]")
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value), where
        rest = schema.get("additionalProperties")
        for name, item in value.items():
            own = schema.get("properties", {}).get(name, rest)
            assert isinstance(own, dict), f"{where}.{name} is not in the schema"
            conforms(item, own, root, f"{where}.{name}")
    return None
