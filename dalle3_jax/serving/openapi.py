"""The OpenAPI description of a server's routes, made of their docstrings and of the models of their bodies."""

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dalle3_jax.serving.a1111_api import ImageToImage, TextToImage
from dalle3_jax.serving.schemas import Edits, Generation, Variations

__all__ = ["describe_routes", "get_description"]

BODIES: dict[str, type[BaseModel]] = {
    "/v1/images/generations": Generation,
    "/v1/images/jobs": Generation,
    "/sdapi/v1/txt2img": TextToImage,
    "/sdapi/v1/img2img": ImageToImage,
}
FORMS: dict[str, type[BaseModel]] = {
    "/v1/images/edits": Edits,
    "/v1/images/variations": Variations,
    "/v1/images/jobs": Edits,
}
FILE = {"type": "string", "format": "binary"}
TEXT = {"type": "string"}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": TEXT,
                "type": TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


async def get_description(request: Request) -> Response:
    """GET /openapi.json."""
    return JSONResponse(describe_routes(request.app.routes))


def describe_routes(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The description, OpenAPI 3.1, of routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        assert isinstance(route, Route)
        path = re.sub(r":\w+}", "}", route.path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = describe_operation(route, path, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dalle3_jax", "version": version("dalle3_jax")},
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def describe_operation(route: Route, path: str, method: str) -> dict[str, Any]:
    """One method of one route."""
    text = (route.endpoint.__doc__ or "").partition("\n")[0]
    error = {
        "description": "an error",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    names = re.findall(r"{(\w+)}", path)
    operation: dict[str, Any] = {
        "summary": text.partition(": ")[2] or text,
        "responses": {"2XX": {"description": "the answer"}, "default": error},
        "parameters": [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names],
    }
    if method == "POST" and (path in BODIES or path in FORMS):
        content = {"application/json": {"schema": BODIES[path].model_json_schema()}} if path in BODIES else {}
        content |= {"multipart/form-data": {"schema": form_schema(FORMS[path])}} if path in FORMS else {}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def form_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a form with the files that go along with them."""
    schema = model.model_json_schema()
    files = {"image": FILE, "image_prompt": FILE} | ({"mask": FILE} if model is Edits else {})
    return schema | {
        "properties": {**files, **schema["properties"]},
        "required": ["image", *schema.get("required", [])],
    }
