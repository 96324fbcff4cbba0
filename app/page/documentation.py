"""Swagger UI at ``/docs``, from this host only, and readable for everybody."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

STATIC_URL = "/static-offline-docs"
"""Where the application mounts the files of Swagger UI."""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def get_documentation(request: Request) -> Response:
    """Every operation of the API, to read and to try."""
    root = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{root}{request.app.openapi_url}",
        title="QPruner API",
        swagger_js_url=f"{root}{STATIC_URL}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{STATIC_URL}/swagger-ui.css",
        swagger_favicon_url=f"{root}/page/icon.svg",
        swagger_ui_parameters={"deepLinking": False},  # would put a link into each button that opens an operation
    )
    text = bytes(page.body).decode()
    text = text.replace("<html>", '<html lang="en">', 1)
    text = text.replace("</head>", f'<link rel="stylesheet" href="{root}/page/docs.css">\n</head>', 1)
    text = text.replace("</body>", f'<script type="module" src="{root}/page/docs.js"></script>\n</body>', 1)
    return HTMLResponse(text)
