"""The application: routes of the API and the pages, behind their guard."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from importlib.metadata import version
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from apdist.retrieval.querying.entry_images import place_of
from apdist.serving.answers import Health, IndexAnswer, SearchAnswer
from apdist.serving.guard import Access, Guard
from apdist.serving.limits import RefusedError, busy
from apdist.serving.metrics import MEDIA_TYPE
from apdist.serving.openapi import DESCRIPTION, SEARCH_BODY, describe, errors
from apdist.serving.page import page
from apdist.serving.searching import picture_of, row_of
from apdist.serving.service import Service, result_of
from apdist.serving.snapshot import Snapshot
from apdist.serving.thumbnails import Encoded, thumbnail_of, whole_of
from apdist.serving.uploads import (
    DEFAULT_K,
    body_of,
    media_type,
    query_of,
    refuse_unknown_options,
)

logger = logging.getLogger(__name__)

_MOST_PICTURES = 64
"""Pictures of the index that are read at once."""
Size = Annotated[
    Literal["thumbnail", "full"],
    Query(description="A WebP of at most 320 pixels a side, or the file."),
]


def application(service: Service, access: Access) -> Guard:
    """What a server of ASGI runs."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.current.watch()
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="apdist search",
        version=version("apdist"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # A trailing slash is no other name of a route: a key may end with one.
        redirect_slashes=False,
        dependencies=[Depends(refuse_unknown_options)],
    )
    _answer_errors(app)
    _add_search(app, service)
    _add_images(app, service)
    _add_figures(app, service)
    _add_pages(app)
    describe(app, with_token=bool(access.token))
    return Guard(app, access, service.metrics)


def _answer_errors(app: FastAPI) -> None:
    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return JSONResponse(error.content, error.status, headers=error.headers)

    def no_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "no_such_page", 405: "method"}.get(error.status_code, "http")
        message = f"{request.method} {request.url.path[:200]}: {error.detail}; /docs lists all"
        refusal = RefusedError(error.status_code, code, message)
        return JSONResponse(refusal.content, error.status_code, headers=error.headers)

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        told = [f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()]
        return JSONResponse(RefusedError(422, "invalid", "; ".join(told)[:500]).content, 422)

    def failed(_: Request, error: Exception) -> Response:
        logger.error("%s: %s", type(error).__name__, error)
        refusal = RefusedError(500, "failed", f"the server failed ({type(error).__name__})")
        return JSONResponse(refusal.content, 500)

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(HTTPException, no_route)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, failed)


def _add_search(app: FastAPI, service: Service) -> None:
    limits = service.limits

    @app.post(
        "/v1/search",
        response_model=SearchAnswer,
        responses=errors(400, 404, 408, 413, 415, 422, 503),
        openapi_extra={"requestBody": SEARCH_BODY},
        summary="Images of the index that look like a picture",
    )
    async def search(
        request: Request,
        k: Annotated[int, Query(ge=1, description="Most results.")] = DEFAULT_K,
        where: Annotated[
            list[str] | None,
            Query(description="Images that may be found: label_name=cat, width>=640. May repeat."),
        ] = None,
        box: Annotated[
            str, Query(description="Part of the picture: left,top,right,bottom in its pixels.")
        ] = "",
        least_score: Annotated[
            float, Query(ge=-1, le=1, description="Results of a lower cosine are none.")
        ] = -1.0,
    ) -> Response:
        if service.is_stopping:
            raise busy("the server stops")
        start = time.perf_counter()
        options = {"k": k, "where": where or (), "box": box, "least_score": least_score}
        with service.admission.request() as held:
            body = await body_of(request.stream(), request.headers, held, limits)
            query = query_of(body, media_type(request.headers), options, limits)
            del body
            snapshot = service.current.snapshot
            found = await service.searcher.search(snapshot, query)
        spent = 1000 * (time.perf_counter() - start)
        return JSONResponse(
            SearchAnswer(
                index_version=snapshot.version,
                milliseconds=round(spent, 1),
                results=[result_of(snapshot, one) for one in found],
            ).model_dump()
        )


def _add_images(app: FastAPI, service: Service) -> None:
    async def image(key: str, size: str, request: Request) -> Response:
        snapshot = service.current.snapshot
        if service.num_pictures >= _MOST_PICTURES:
            raise busy(f"{service.num_pictures} pictures are being read")
        row = row_of(snapshot, key)
        place = place_of(snapshot.entry(row))
        tag = f'"{sha256(f"{size}:{place}".encode()).hexdigest()[:24]}"'
        # A picture is asked for again each time, and sent again only where it is another one.
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        service.num_pictures += 1
        try:
            shown = await asyncio.to_thread(_encoded, service, snapshot, row, key, size)
        finally:
            service.num_pictures -= 1
        return Response(shown.data, media_type=shown.media_type, headers=headers)

    @app.get(
        "/v1/images",
        responses=errors(404, 422, 503),
        response_class=Response,
        summary="The picture of an image of the index",
    )
    async def image_by_key(
        request: Request,
        key: Annotated[str, Query(description="Of the image, any text.")],
        size: Size = "thumbnail",
    ) -> Response:
        return await image(key, size, request)

    @app.get(
        "/v1/images/{key:path}",
        responses=errors(404, 422, 503),
        response_class=Response,
        summary="The same; browsers change addresses with a key such as ../a",
    )
    async def image_at(request: Request, key: str, size: Size = "thumbnail") -> Response:
        return await image(key, size, request)


def _encoded(service: Service, snapshot: Snapshot, row: int, key: str, size: str) -> Encoded:
    if size == "full":
        return whole_of(picture_of(snapshot, row, key), service.room)
    place = place_of(snapshot.entry(row))
    found = service.thumbnails.get(place)
    if found is None:
        found = thumbnail_of(picture_of(snapshot, row, key), service.room)
        service.thumbnails.put(place, found)
    return found


def _add_figures(app: FastAPI, service: Service) -> None:
    @app.get("/v1/index", response_model=IndexAnswer, responses=errors(), summary="What is served")
    def index() -> IndexAnswer:
        snapshot, limits = service.current.snapshot, service.limits
        settings = snapshot.opened.index.settings
        labels, num_labels = snapshot.labels
        return IndexAnswer(
            index_version=snapshot.version,
            model_id=str(settings["model_id"]),
            kind=str(settings["kind"]),
            images=len(snapshot),
            dim=int(settings["dim"]),
            metric="cosine",
            columns=snapshot.columns,
            label_column=snapshot.label_column,
            labels=labels,
            num_labels=num_labels,
            limits={"bytes": limits.bytes, "pixels": limits.pixels, "k": limits.k},
        )

    @app.get(
        "/health",
        response_model=Health,
        responses={421: errors()[421], 503: {"model": Health, "description": "It is stopping."}},
        summary="Whether searches are answered",
        openapi_extra={"security": []},
    )
    async def health() -> Response:
        told = Health(
            status="ready" if service.is_ready else "stopping",
            index_version=service.current.snapshot.version,
            # Who asks needs no token, and its words may name folders.
            reload_error="the log of the server tells" if service.current.error else "",
        )
        return JSONResponse(told.model_dump(), 200 if service.is_ready else 503)

    @app.get(
        "/metrics",
        responses=errors(),
        response_class=Response,
        summary="Figures for Prometheus",
    )
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type=MEDIA_TYPE)


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def searching() -> HTMLResponse:
        text, its_policy = page("page.html")
        return HTMLResponse(text, headers={"Content-Security-Policy": its_policy})

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        text, its_policy = page("docs.html", about=app.openapi())
        return HTMLResponse(text, headers={"Content-Security-Policy": its_policy})
