"""Prints the JSON Schema of `report.json`, as `docs/report.schema.json` holds it."""

import json

from heft.report.facts import json_schema

__all__ = ["main"]


def main() -> None:
    """Prints it."""
    print(json.dumps(json_schema(), indent=1))


if __name__ == "__main__":
    main()
