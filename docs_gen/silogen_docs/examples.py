"""Examples of every code: what gives the finding, what is printed then, and what to write instead."""

from __future__ import annotations

import contextlib
import json
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from silogen_compiler.pipeline import Compiled

FOLDER = Path(__file__).parent / "code_examples"
COMMAND = "$ "


class Example(NamedTuple):
    """One entry of the files in `code_examples`; its README.md says what the fields are."""

    wrong: str
    right: str
    prints: str = ""
    template: str = ""
    file: str = "run.yaml"
    files: Mapping[str, Any] = {}
    encoding: str = "utf-8"
    world_size: int | None = None
    target: str = "hf-2026.11"
    environment: Mapping[str, str] = {}

    @property
    def options(self) -> dict[str, Any]:
        return {"world_size": self.world_size, "target": self.target, "environment": self.environment}


def load_examples() -> dict[str, Example]:
    """Return the example of each code, in the order of the codes."""
    found: dict[str, Example] = {}
    for path in sorted(FOLDER.glob("SG*.yaml")):
        entries = yaml.safe_load(path.read_text("utf-8"))
        found |= {code: Example(**fields) for code, fields in entries.items()}
    return dict(sorted(found.items()))


def compile_snippet(example: Example, snippet: str) -> Compiled:
    """Compile `snippet`, a config or a command, in a folder with the files of its example."""
    # What these read is generated before the examples are.
    from silogen_compiler.diagnostics import Refused  # noqa: PLC0415
    from silogen_compiler.layers.extends import load_files  # noqa: PLC0415
    from silogen_compiler.load import load_text  # noqa: PLC0415
    from silogen_compiler.pipeline import Compiled, compile_layers  # noqa: PLC0415

    base = (FOLDER / "base.yaml").read_text("utf-8")
    is_command = snippet.startswith(COMMAND)
    names, settings = _arguments(snippet) if is_command else (("run.yaml",), {})
    encoding = example.encoding if snippet == example.wrong else "utf-8"
    sources: dict[str, str] = {}
    with _folder({**example.files, "run.yaml": (base if is_command else snippet).encode(encoding)}):
        try:
            layers = load_files(names, sources)
        except Refused as refused:
            return Compiled(None, {}, list(refused.diagnostics), sources)
        if not is_command:
            below = _without(yaml.safe_load(base), layers[-1].data)
            if layers[-1].data.get("method") == "dpo":
                del below["sft_args"]
            layers.insert(0, load_text("base.yaml", yaml.safe_dump(below)))
        return compile_layers(layers, **settings, **example.options)


def printed(compiled: Compiled) -> str:
    """Return the findings as a terminal shows them, without colour."""
    from silogen_compiler.render.text import render_text  # noqa: PLC0415

    return render_text(compiled.diagnostics, compiled.sources).strip("\n") + "\n"


@contextlib.contextmanager
def _folder(files: Mapping[str, Any]) -> Iterator[None]:
    """Work in a new folder that holds `files`."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, content in files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(_bytes(name, content))
        yield


def _bytes(name: str, content: Any) -> bytes:
    """Return what a file holds: bytes or text, JSON, or the header of weights of the shapes in `content`."""
    if isinstance(content, (bytes, str)):
        return content.encode() if isinstance(content, str) else content
    if not name.endswith(".safetensors"):
        return json.dumps(content).encode()
    header = {
        key: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for key, shape in content.items()
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def _without(base: Any, above: Any) -> Any:
    """Return the base without the values that the layer above sets anew."""
    if not isinstance(base, dict) or not isinstance(above, dict):
        return base
    kept = {key: value for key, value in base.items() if key not in above or isinstance(value, dict)}
    return {key: _without(value, above.get(key)) for key, value in kept.items()}


def _arguments(snippet: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the files and the settings of a command, read as the command reads them."""
    from silogen_compiler.commands.compile import compile_command  # noqa: PLC0415

    words = shlex.split(snippet.removeprefix(COMMAND))
    assert words[:2] == ["silogen", "compile"], snippet
    given = compile_command.make_context("silogen", words[2:]).params
    return given["configs"], {"settings": given["settings"], "setting_files": given["setting_files"]}
