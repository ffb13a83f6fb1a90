#!/usr/bin/env python3
"""Checks what the catalog asks for against a description of the API.

    tools/check-openapi.py openapi.json [more.json …] [--sql sql]

For each source of sql/*/sources.toml: whether the description knows its endpoint, each query parameter that is sent,
values where it lists them, the bound of `limit`, and whether all required parameters are sent. Later files win over
earlier ones. Exit code 1 if anything is wrong; an endpoint that no file knows is a note, since descriptions lag behind.
"""

import argparse
import json
import pathlib
import sys
import tomllib


# Parameters that the service is known to take although descriptions lack them.
SEEN = {
    ("/assets", "includeAttributes"),
    ("/fleet/safety-events", "limit"),
    ("/fleet/vehicles/stats/history", "limit"),
    ("/maintenance/work-orders/stream", "includeExternalIds"),
}


def operations(files):
    """Path to its parameters by name, those of later files first."""
    found = {}
    for file in files:
        description = json.loads(pathlib.Path(file).read_text())
        shared = description.get("components", {}).get("parameters", {})
        for path, item in description["paths"].items():
            if "get" not in item:
                continue
            parameters = {}
            for parameter in item.get("parameters", []) + item["get"].get("parameters", []):
                if "$ref" in parameter:
                    parameter = shared[parameter["$ref"].rsplit("/", 1)[-1]]
                parameters[parameter["name"]] = parameter
            found[path] = parameters
    return found


def path_of(endpoint, known):
    """The described path of an endpoint, whatever its placeholders are called."""
    steps = endpoint.split("/")
    for path in known:
        other = path.split("/")
        if len(other) == len(steps) and all(
            a == b or (a.startswith("{") and b.startswith("{")) for a, b in zip(steps, other)
        ):
            return path
    return None


def sent(source):
    """Each parameter that requests of a source carry, with its values where they are fixed."""
    parameters = {name: [value] for name, value in source.get("params", {}).items()}
    parameters.update(source.get("sweep", {}))
    window = source.get("window", {})
    for end in ("start", "end"):
        if end in window:
            parameters[window[end]] = None
    if "since" in source:
        parameters[source["since"]["param"]] = None
    if "page_limit" in source:
        parameters["limit"] = [str(source["page_limit"])]
    parent = source.get("parent")
    if parent:
        if "{" + parent["param"] + "}" not in source["endpoint"]:
            parameters[parent["param"]] = None
        for name in parent.get("with", {}):
            parameters[name] = None
    return parameters


def faults(name, source, known):
    path = path_of(source["endpoint"], known)
    if path is None:
        return
    described = known[path]
    parameters = sent(source)
    for parameter, values in parameters.items():
        if (path, parameter) in SEEN and parameter not in described:
            continue
        if parameter not in described:
            yield f"{name}: {path} has no parameter `{parameter}`"
            continue
        schema = described[parameter].get("schema", {})
        allowed = schema.get("enum") or schema.get("items", {}).get("enum")
        for value in values or []:
            for one in value.split(","):
                if allowed and one and one not in map(str, allowed):
                    yield f"{name}: {path}?{parameter}={one} is none of {', '.join(map(str, allowed))}"
        most = schema.get("maximum")
        if parameter == "limit" and most and int(values[0]) > most:
            yield f"{name}: {path} takes a limit of {most}, not {values[0]}"
    for parameter, description in described.items():
        is_needed = description.get("required") and description.get("in") == "query"
        if is_needed and parameter not in parameters:
            yield f"{name}: {path} needs `{parameter}`"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("openapi", nargs="+")
    arguments.add_argument("--sql", default=pathlib.Path(__file__).parent.parent / "sql", type=pathlib.Path)
    options = arguments.parse_args()
    known = operations(options.openapi)
    wrong, unknown, count = [], set(), 0
    for file in sorted(options.sql.glob("*/sources.toml")):
        sources = tomllib.loads(file.read_text())
        defaults = sources.pop("defaults", {})
        for name, source in sources.items():
            source = defaults | source
            count += 1
            if path_of(source["endpoint"], known) is None:
                unknown.add(source["endpoint"])
            wrong += faults(name, source, known)
    for endpoint in sorted(unknown):
        print(f"note: no description of {endpoint}")
    for fault in wrong:
        print(f"error: {fault}")
    print(f"{count} sources: {len(wrong)} faults, {len(unknown)} endpoints without a description")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
