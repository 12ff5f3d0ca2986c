"""What a browser talks to: a viewer's files, and Orthanc's DICOMweb behind the same origin."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from cxr_triage.daemon.sockets import listening_socket
from peers import LOOPBACK, PATIENCE_SECONDS, Orthanc, eventually

#: Without both, a page has no shared memory for its decoders (HTML, "cross-origin isolated").
ISOLATED: Final = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
#: Asked for once, though opened many times: a viewer is some 20 MB of scripts.
KEPT: Final = {"Cache-Control": "max-age=86400"}
#: What a machine's own table of types may lack, or name otherwise.
TYPES: Final = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
#: Paths that Orthanc answers.
FORWARDED: Final = ("/dicom-web/{path:path}", "/wado", "/instances/{path:path}")


@contextmanager
def proxy(pacs: Orthanc, folder: Path, own: Mapping[str, str]) -> Iterator[str]:
    """Serve a viewer on loopback until the end of the block; gives its address.

    Args:
        pacs: answers everything below `FORWARDED`.
        folder: the viewer's files.
        own: text by path, in place of the folder's files.
    """
    with (
        listening_socket(LOOPBACK, 0, name="viewer") as listener,
        httpx.Client(base_url=pacs.http, timeout=PATIENCE_SECONDS) as client,
    ):
        address = f"{LOOPBACK}:{listener.getsockname()[1]}"
        app = _application(client, address, folder, own)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        serving.start()
        try:
            eventually(lambda: server.started)
            yield f"http://{address}"
        finally:
            server.should_exit = server.force_exit = True
            serving.join(PATIENCE_SECONDS)


def _application(client: httpx.Client, address: str, folder: Path, own: Mapping[str, str]) -> Starlette:
    # Orthanc writes addresses into its answers: those that the browser can reach.
    forwarded = {"Forwarded": f"host={address};proto=http"}

    def pass_on(request: Request) -> Response:
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        accepted = {"Accept": request.headers.get("accept", "*/*")}
        answer = client.get(path, headers=forwarded | accepted)
        kind = answer.headers.get("content-type", "application/octet-stream")
        return Response(answer.content, answer.status_code, headers=ISOLATED | {"Content-Type": kind})

    def file(request: Request) -> Response:
        name = request.path_params["path"]
        if name in own:
            suffix = Path(name).suffix
            return Response(own[name], media_type=TYPES.get(suffix, "text/html"), headers=ISOLATED)
        path = folder / name
        # A viewer's own addresses, such as /viewer, are its page's business.
        path = path if path.is_file() else folder / "index.html"
        return FileResponse(path, media_type=TYPES.get(path.suffix), headers=ISOLATED | KEPT)

    return Starlette(routes=[*(Route(path, pass_on) for path in FORWARDED), Route("/{path:path}", file)])
