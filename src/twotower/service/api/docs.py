"""API documentation at ``/docs``: Swagger UI from this host, with examples of the bundle."""

import json
from importlib.resources import files
from typing import Any, Final

import numpy as np
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from twotower.data import columns
from twotower.service.api.context import Context
from twotower.service.api.problems import Problem
from twotower.service.service import Service

FILES: Final = "/docs-files"
"""Where Swagger UI's own files are served: nothing is fetched from another host."""
_USERS: Final = ("U0047",)
_ITEMS: Final = ("G0885", "G0888")
_WORDS: Final = "dark fantasy with hard bosses"
_PRICE: Final = 40
"""Placeholders in the examples: ids of the sample, a text and a price limit."""
_PARAMETERS: Final = {
    "displayRequestDuration": True,
    "docExpansion": "list",
    "persistAuthorization": True,
    "tryItOutEnabled": True,
}
_STYLE: Final = """<style>
.swagger-ui .topbar, .swagger-ui .info .title small.version-stamp { display: none; }
.swagger-ui .info .title { color: #0B5C92; }
.swagger-ui .btn.authorize, .swagger-ui .btn.authorize svg { color: #0B5C92; fill: #0B5C92;
  border-color: #0B5C92; }
.swagger-ui .btn.execute { background: #0B5C92; border-color: #0B5C92; }
@media (prefers-color-scheme: dark) {
  html { background: #0f151c; }
  .swagger-ui { filter: invert(.9) hue-rotate(180deg); }
}
</style>
</head>"""


def add_docs(app: FastAPI) -> None:
    """Serve ``/docs``, and put problems and the bundle's examples into ``/openapi.json``.

    The app is made with ``docs_url=None``, since FastAPI's own page reads from a CDN.
    """
    static = files("fastapi_offline") / "static"
    app.mount(FILES, StaticFiles(directory=str(static)), name="docs-files")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} API",
            swagger_js_url=f"{root}{FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{FILES}/swagger-ui.css",
            swagger_favicon_url=f"{root}{FILES}/favicon.png",
            swagger_ui_parameters=_PARAMETERS,
        )
        return HTMLResponse(bytes(page.body).decode().replace("</head>", _STYLE, 1))

    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()  # FastAPI makes it once and keeps it
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"].setdefault("Problem", schema)
        shared: Context = app.state.context
        return document if shared.service is None else _with_examples(document, shared.service)

    app.openapi = openapi  # type: ignore[method-assign]


def _with_examples(document: dict[str, Any], service: Service) -> dict[str, Any]:
    """A copy whose examples name users and items of the bundle, so that they can be run."""
    contents = service.pipeline.contents
    ours = dict(zip(_USERS, contents.users.ids, strict=False))
    ours |= dict(zip(_ITEMS, contents.items.ids, strict=False))
    if service.pipeline.text_encoder is None:  # words must then be those of a title
        titles = (title for title in contents.catalogue[columns.TITLE].to_list() if title)
        ours[_WORDS] = next(titles, _WORDS)
    priced = bool(np.isfinite(service.pipeline.items.prices.rows).any())

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: renamed(of)
                for key, of in value.items()
                if priced or (key, of) != ("max_price", _PRICE)
            }
        if isinstance(value, list):
            return [renamed(of) for of in value]
        return ours.get(value, value) if isinstance(value, str) else value

    copy: dict[str, Any] = renamed(json.loads(json.dumps(document)))
    return copy
