"""Errors over HTTP: RFC 9457 problems with a stable code; OpenAI's shape on OpenAI's paths."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from edged.errors import EdgedError
from edged.log import fields, get_logger

log = get_logger(__name__)

OPENAI_PATHS = ("/v1/audio/", "/v1/models/", "/v1/realtime")
_STATUS = {
    "audio_too_long": 413,
    "body_too_large": 413,
    "too_many_clients": 503,
    "engine_not_ready": 503,
    "engine_degraded": 503,
    "engine_moving": 503,
    "model_not_found": 404,
    "no_step": 422,
    "no_span": 422,
    "no_stream": 404,
    "store": 503,
    "no_store": 404,
    "not_probed": 404,
}


class Problem(BaseModel):
    """RFC 9457, with a code that programs can rely on."""

    type: str = "about:blank"
    title: str = Field(examples=["Bad Request"])
    status: int = Field(examples=[400])
    code: str = Field(examples=["bad_encoding"])
    detail: str = Field(examples=["encoding 'mp3' is unknown; use one of s16le, f32le"])


class OpenAIErrorBody(BaseModel):
    """The inside of OpenAI's error."""

    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = None
    code: str | None = Field(None, examples=["unknown_audio"])


class OpenAIError(BaseModel):
    """OpenAI's error shape."""

    error: OpenAIErrorBody


_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How a route documents its problems."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"content": content} for status in statuses}


ERRORS = described(401, 403, 413, 422)
"""What every route may answer"""
OPENAI_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": OpenAIError} for status in (401, 403, 404, 413, 422)
}
"""The same of one in OpenAI's shape"""


class FieldError(EdgedError):
    """One field of a request asks for what cannot be."""

    def __init__(self, message: str, *, code: str, param: str) -> None:
        super().__init__(message, code=code)
        self.param = param


def openai_error(error: EdgedError) -> dict[str, Any]:
    """The inside of OpenAI's error."""
    status = _STATUS.get(error.code, 400)
    return _openai(status, error.code, error.message, getattr(error, "param", None))


def _openai(status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"message": message, "type": kind, "param": param, "code": code}


def problem(
    path: str, status: int, code: str, detail: str, param: str | None = None
) -> JSONResponse:
    """An error response in the shape that belongs to the path."""
    if path.startswith(OPENAI_PATHS):
        return JSONResponse({"error": _openai(status, code, detail, param)}, status)
    content = Problem(
        title=_TITLES.get(status, "Error"), status=status, code=code, detail=detail
    ).model_dump()
    return JSONResponse(content, status, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Make every error of the app one of ours."""

    async def edged_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, EdgedError)
        status = _STATUS.get(error.code, 400)
        param = getattr(error, "param", None)
        return problem(request.url.path, status, error.code, error.message, param)

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _TITLES.get(error.status_code, "error").lower().replace(" ", "_")
        response = problem(request.url.path, error.status_code, code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        param = str(fault["loc"][-1])
        return problem(request.url.path, 422, "invalid_request", f"{place}: {fault['msg']}", param)

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        failed = fields("request_failed", path=request.url.path)
        log.exception("%s failed", request.url.path, exc_info=error, extra=failed)
        detail = "edged failed here; its log says why"
        return problem(request.url.path, 500, "internal", detail)

    app.add_exception_handler(EdgedError, edged_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
