"""MkDocs hook: pages that lie outside ``docs/`` are part of the site, and links lead to them."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
LINK = re.compile(r"\]\((?P<path>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files, config):
    """Add the pages that lie outside, and pictures beside them."""
    outside = [ROOT / name for name in OUTSIDE]
    for path in [*outside, *ROOT.glob("benchmarks/results/*.svg")]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, files, **_):
    """Lead links to pages of the site where there is one; other files are only named."""
    source = page.file.src_uri
    place = posixpath.dirname(source if source in OUTSIDE else f"docs/{source}")

    def led(link):
        target = posixpath.normpath(posixpath.join(place, link["path"]))
        inside = target.removeprefix("docs/")
        if files.get_file_from_path(inside) is None:
            return f"] (`{target}`)"
        path = posixpath.relpath(inside, posixpath.dirname(source))
        return f"]({path}{link['anchor'] or ''})"

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(led, part) for part in parts)
