"""The description of the routes for programs (OpenAPI 3.1), at `/openapi.json`."""

from __future__ import annotations

from typing import Any

from pocketseg.server.settings import Settings
from pocketseg.server.task import TYPES
from pocketseg.version import VERSION

TEXT = {"type": "string"}
BINARY = {"schema": {"type": "string", "format": "binary"}}
# What may come of every request, and of those that bring an image.
ALWAYS = {
    400: "The request is not valid.", 401: "The token is missing or wrong.", 403: "Host or Origin is not allowed.",
    404: "There is no such route, or model.", 405: "The route has no such method.", 429: "Too often; see Retry-After.",
    431: "The headers are too long.", 500: "The service failed.", 503: "Busy, loading or ending; see Retry-After.",
}  # fmt: skip
OF_IMAGES = {
    406: "No type in Accept can be sent, or one file was asked for and there are several.",
    408: "The body came too slowly.", 413: "Too many bytes, pixels or slices.",
    415: "The content is not an image of a known format, or it is compressed.", 422: "The image cannot be segmented.",
    504: "It took too long, and was ended.",
}  # fmt: skip
SCHEMAS = {
    "Problems": {
        "type": "object",
        "required": ["problems"],
        "properties": {
            "problems": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["where", "what", "fix"],
                    "properties": {"where": TEXT, "what": TEXT, "fix": TEXT},
                },
            }
        },
    },
    "Model": {
        "type": "object",
        "required": ["name", "classes", "size", "channels", "precision", "parameters", "sha256"],
        "properties": {
            "name": TEXT,
            "classes": {"type": "array", "items": TEXT},
            "size": {"type": "array", "items": {"type": "integer"}, "description": "height and width that it takes"},
            "channels": {"type": "integer"},
            "precision": TEXT,
            "parameters": {"type": ["integer", "null"]},
            "sha256": {**TEXT, "description": "of the file that runs"},
        },
    },
    "Measurements": {
        "type": "object",
        "required": ["model", "sha256", "measurements", "warnings", "problems"],
        "properties": {
            "model": TEXT,
            "sha256": TEXT,
            "measurements": {
                "type": "array",
                "items": {"type": "object"},
                "description": "the rows of measurements.csv of `pocketseg predict --table`, by column",
            },
            "warnings": {"type": "array", "items": TEXT},
            "problems": {"$ref": "#/components/schemas/Problems/properties/problems"},
        },
    },
}


def document(settings: Settings) -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, Any] = {
        "/healthz": {"get": _plain("Whether the process is alive")},
        "/readyz": {"get": _plain("Whether images can be sent: 503 while models load, and after SIGTERM")},
        "/metrics": {"get": _of("Counts for Prometheus", {"text/plain": {"schema": TEXT}})},
        "/openapi.json": {"get": _plain("This description")},
        "/v1/models": {"get": _of("The models", _json({"models": {"type": "array", "items": _ref("Model")}}))},
        "/v1/segment": {"post": _segment(list(settings.models))},
        "/info/": {"get": _plain("MONAI Label: models and labels")},
        "/auth/": {"get": _plain("MONAI Label: no login of its own")},
        "/datastore/": {"put": _upload("MONAI Label: keep an image for an hour", [_query("image", TEXT)])},
        "/session/": {"put": _upload("MONAI Label: keep an image for an hour, under a name that is given back", [])},
        "/session/{id}": {
            "parameters": [_path("id")],
            "get": _plain("MONAI Label: whether a session is there"),
            "delete": _plain("MONAI Label: forget it"),
        },
        "/infer/{model}": {"parameters": [_path("model")], "post": _infer()},
    }
    security: list[dict[str, list[str]]] = [{"token": []}] if settings.token else []
    return {
        "openapi": "3.1.0",
        "info": {"title": "pocketseg", "version": VERSION, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": security,
    }  # fmt: skip


def _segment(models: list[str]) -> dict[str, Any]:
    flag = {"type": "string", "enum": ["true", "false", "1", "0"]}
    content: dict[str, Any] = dict.fromkeys(TYPES.values(), BINARY)
    content["application/json"] = {"schema": _ref("Measurements")}
    made = _of("Segment an image, a volume, or a zip of such", content, OF_IMAGES)
    made["responses"]["200"]["headers"] = {
        "Model-Sha256": {"schema": TEXT, "description": "of the model file that answered"},
        "Pocketseg-Warning": {"schema": TEXT, "description": "what is odd about the image"},
        "Pocketseg-Problems": {"schema": TEXT, "description": "how many images of a zip could not be done"},
    }
    return {
        **made,
        "parameters": [
            _query("model", {"type": "string", "enum": models}, required=len(models) > 1),
            _query("to", {"type": "string", "enum": ["same", *TYPES]}, "before Accept; in a zip, of its masks"),
            _query("overlay", flag), _query("probabilities", flag), _query("keep_identity", flag),
        ],
        "requestBody": {"required": True, "content": {"application/octet-stream": BINARY}},
    }  # fmt: skip


def _infer() -> dict[str, Any]:
    content = {
        "multipart/form-data": {"schema": {"type": "object"}},
        "application/json": {"schema": {"type": "object"}},
    }
    content |= {TYPES[name]: BINARY for name in ("nifti", "nrrd", "mha", "dicom-seg")}
    return {
        **_of("MONAI Label: segment an image of the form, or one that is kept", content, OF_IMAGES),
        "parameters": [
            _query("image", TEXT), _query("session_id", TEXT),
            _query("output", {"type": "string", "enum": ["all", "image", "json", "dicom_seg"]}),
        ],
        "requestBody": {"content": {"multipart/form-data": {"schema": {"type": "object"}}}},
    }  # fmt: skip


def _upload(summary: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **_of(summary, _json({}), OF_IMAGES),
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {"type": "object"}}}},
    }


def _plain(summary: str) -> dict[str, Any]:
    return _of(summary, _json({}))


def _of(summary: str, content: dict[str, Any], more: dict[int, str] | None = None) -> dict[str, Any]:
    problems = {"application/json": {"schema": _ref("Problems")}}
    wrong = {str(code): {"description": text, "content": problems} for code, text in {**ALWAYS, **(more or {})}.items()}
    return {"summary": summary, "responses": {"200": {"description": "Done.", "content": content}, **wrong}}


def _json(properties: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": {"type": "object", "properties": properties}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, schema: dict[str, Any], text: str = "", required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "required": required, "description": text}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}
