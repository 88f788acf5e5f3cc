"""The JSON schema of suite files, from which editors complete and check while one writes."""

from __future__ import annotations

from typing import Any

from rocompare.suite import catalog, registry
from rocompare.suite.models import NAME_PATTERN, Curriculum, SuiteFile

Schema = dict[str, Any]


def schema() -> Schema:
    """Of a whole suite file, with every algorithm's and every environment's parameters.

    It asks for less than reading a suite does: what models check beyond types and bounds is left
    out, and of a class of the user's nothing is known.
    """
    whole = SuiteFile.model_json_schema()
    defs: Schema = whole["$defs"]
    defs["Curriculum"] = Curriculum.model_json_schema()
    algorithms = {name: _fields("algorithm", name, defs) for name in registry.ALGORITHMS}
    for name, place in registry.ALGORITHMS.items():
        extra = {"use": _use(name, place), "curriculum": {"$ref": "#/$defs/Curriculum"}}
        defs[f"algorithm_{name}"] = _closed("algorithm", name, algorithms[name], extra)
    own = {
        "type": "object",
        "description": "Hyperparameters that are others in this scenario, by the algorithm's name.",
        "properties": {
            name: {
                "type": "object",
                "properties": {
                    "curriculum": {"$ref": "#/$defs/Curriculum"},
                    **fields["properties"],
                },
            }
            for name, fields in algorithms.items()
        },
        "additionalProperties": {"type": "object"},
    }
    for name, place in registry.ENVIRONMENTS.items():
        extra = {"env": _use(name, place), "budget": {"$ref": "#/$defs/Budget"}, "algorithms": own}
        fields = _fields("environment", name, defs)
        defs[f"environment_{name}"] = _closed("environment", name, fields, extra)
    defs["algorithm"] = _choice("algorithm", "use")
    defs["scenario"] = _choice("environment", "env")
    names = {"pattern": f"^{NAME_PATTERN}$"}
    whole["properties"]["algorithms"] |= {
        "propertyNames": names,
        "properties": {
            name: {
                "if": {"type": "object", "required": ["use"]},
                "then": {"$ref": "#/$defs/algorithm"},
                "else": {"$ref": f"#/$defs/algorithm_{name}"},
            }
            for name in algorithms
        },
        "additionalProperties": {"$ref": "#/$defs/algorithm"},
    }
    whole["properties"]["scenarios"] |= {
        "propertyNames": names,
        "additionalProperties": {"$ref": "#/$defs/scenario"},
    }
    whole["properties"]["reference"] |= {"enum": [*registry.REFERENCES, None]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "title": "Suite"}


def _fields(kind: str, name: str, defs: Schema) -> Schema:
    """``properties`` and ``required`` of a class's parameters; models in them go to ``defs``."""
    fields: Schema = registry.load(kind, name).Config.model_json_schema()
    defs.update(fields.pop("$defs", {}))
    for part in fields["properties"].values():
        part.pop("title", None)
        if "description" in part:
            part["description"] = " ".join(part["description"].replace("``", "`").split())
    return fields


def _use(name: str, place: str) -> Schema:
    return {"const": name, "description": catalog.about(place)}


def _closed(kind: str, name: str, fields: Schema, extra: Schema) -> Schema:
    """An entry of a suite that names this class: its parameters and ``extra``, nothing else."""
    return {
        "type": ["object", "null"] if kind == "algorithm" else "object",
        "description": catalog.about(catalog.TABLES[kind][name]),
        "properties": {**extra, **fields["properties"]},
        "required": fields.get("required", []),
        "additionalProperties": False,
    }


def _choice(kind: str, key: str) -> Schema:
    """An entry whose ``key`` says which class it names; of a class of the user's anything goes."""
    return {
        "type": "object",
        "required": [key],
        "properties": {
            key: {
                "description": f"The {kind}: one that ships, or your own 'package.module:Class' or "
                "'./file.py:Class'.",
                "anyOf": [{"enum": list(catalog.TABLES[kind])}, {"type": "string", "pattern": ":"}],
            }
        },
        "allOf": [
            {
                "if": {"properties": {key: {"const": name}}, "required": [key]},
                "then": {"$ref": f"#/$defs/{kind}_{name}"},
            }
            for name in catalog.TABLES[kind]
        ],
    }
