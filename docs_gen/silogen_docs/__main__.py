"""`python -m silogen_docs` writes every generated file; `--check` says which ones have drifted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from silogen_docs.bundle import ROOT, SCHEMA_DIR, editor_form, load_bundle, validation_form
from silogen_docs.errors import error_pages
from silogen_docs.models import generate_experiment, generate_models, generate_package
from silogen_docs.reference import reference_pages

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = Path("generated/silogen_config")


def _json(schema: object, *, indent: int | None) -> str:
    separators = (",", ":") if indent is None else None
    return json.dumps(schema, indent=indent, separators=separators, ensure_ascii=False) + "\n"


def _bundles() -> dict[Path, str]:
    config = load_bundle("experiment")
    return {
        CONFIG / "silogen.schema.json": _json(editor_form(config), indent=2),
        CONFIG / "validation.json": _json(validation_form(config), indent=None),
        CONFIG / "resolved.schema.json": _json(load_bundle("resolved"), indent=2),
    }


def _targets() -> dict[Path, str]:
    """Return each target as the compiler reads it: arguments, defaults and fixed values, without types."""
    targets = [
        json.loads(path.read_text("utf-8")) for path in sorted((SCHEMA_DIR / "targets").glob("*.json"))
    ]
    for target in targets:
        classes = target["classes"]
        choices = {name: _choices(arguments) for name, arguments in classes.items()}
        target["choices"] = {name: found for name, found in choices.items() if found}
        for name, arguments in classes.items():
            classes[name] = {key: spec.get("default") for key, spec in sorted(arguments.items())}
    packages = {target["name"]: target["packages"] for target in targets}
    return {
        CONFIG / "targets.json": _json(packages, indent=2),
        **{CONFIG / "targets" / f"{target['name']}.json": _json(target, indent=None) for target in targets},
    }


def _choices(arguments: dict[str, dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the fixed values of those arguments that have some."""
    return {
        key: spec["choices"] + ([None] if spec.get("default") is None else [])
        for key, spec in arguments.items()
        if "choices" in spec
    }


def _models() -> dict[Path, str]:
    models = generate_models("experiment", "resolved", "data_types")
    return {
        CONFIG / "__init__.py": generate_package(),
        CONFIG / "experiment.py": generate_experiment(),
        CONFIG / "models.py": models,
        CONFIG / "py.typed": "",
    }


# In order: the last compiles configs, with what those before it wrote.
GENERATORS: tuple[Callable[[], dict[Path, str]], ...] = (
    _bundles,
    _targets,
    _models,
    reference_pages,
    error_pages,
)


def _update(files: dict[Path, str], *, check: bool) -> list[Path]:
    """Return the files that are not what would be written, and write them unless `check` is set."""
    stale = [path for path, text in files.items() if not _holds(ROOT / path, text)]
    for path in stale:
        click.echo(f"{'stale' if check else 'wrote'}: {path}")
        if not check:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(files[path], "utf-8")
    return stale


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text("utf-8") == text


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when a file is not what would be written.")
def main(*, check: bool) -> None:
    """Write the bundles, the models and the pages from schema/, and from the codes and their examples."""
    stale = [path for generate in GENERATORS for path in _update(generate(), check=check)]
    if check and stale:
        click.echo("Run `make generate` and commit what it writes.", err=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
