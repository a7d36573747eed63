"""`twotower demo`: the web demo of a bundle."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from twotower.cli.options import notes, print_result
from twotower.errors import InputError


def demo(
    bundle: Annotated[str, typer.Option("--bundle", help="Folder or URL of a bundle.")],
    api: Annotated[
        str | None,
        typer.Option("--api", help="URL of a running service to ask; key: TWOTOWER_API_KEY."),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", help="Results file, or folder of them; may be given again."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port.")] = 8501,
) -> None:
    """Open the web demo of a bundle. Needs the extra 'demo'.

    Example: `twotower demo --bundle runs/sample/bundle`
    """
    try:
        from streamlit.web.cli import main as streamlit

        from twotower.demo.loaded_bundle import open_once
        from twotower.demo.settings import API_KEY
        from twotower.demo.source import find_bundle, version_of
    except ModuleNotFoundError as error:
        raise InputError(
            f"the demo needs the package {error.name}, which is not installed",
            "run pip install 'twotower[demo]'",
        ) from error
    from twotower.console import downloading

    with downloading(notes()) as progress:
        folder = find_bundle(bundle, progress=progress)
    # Before the server starts, so that the first page is fast and mistakes are reported here.
    open_once(str(folder), version_of(folder), api, os.environ.get(API_KEY))
    app = Path(sys.modules["twotower.demo"].__file__ or "").with_name("app.py")
    app_arguments = ["--bundle", str(folder)]
    app_arguments += [] if api is None else ["--api", api]
    for path in results or []:
        app_arguments += ["--results", str(path)]
    print_result(f"demo: http://{host}:{port}  (Ctrl+C ends it)")
    server = ["--server.address", host, "--server.port", str(port)]
    streamlit(
        ["run", str(app), *server, "--", *app_arguments],
        prog_name="streamlit",
        standalone_mode=False,
    )
