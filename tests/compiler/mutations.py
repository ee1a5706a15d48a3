"""Inputs for the fuzz test: files of the cases and examples, damaged at random, each made from one seed."""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

import yaml
from cases import CASES, INPUTS, ROOT
from silogen_compiler.diagnostics import Refused
from silogen_compiler.load import load_text
from silogen_compiler.targets import packages_of_targets


class Input(NamedTuple):
    """What one compile is given: files in the order of layers, and the options of `pipeline.Options`."""

    files: dict[str, bytes]
    settings: tuple[str, ...] = ()
    setting_files: tuple[str, ...] = ()
    environment: dict[str, str] = {}  # noqa: RUF012 - never changed
    world_size: int = 1
    target: str | None = None


FRAGMENTS = [
    *(
        b"",
        b" ",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n",
        b":",
        b": ",
        b"- ",
        b"-",
        b"?",
        b"? ",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
    ),
    *(
        b'"',
        b"'",
        b'"""',
        b"'''",
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"\\x",
        b"#",
        b"|",
        b">",
        b"|2-",
        b"%",
        b"%YAML 9.9\n",
    ),
    *(
        b"&a ",
        b"*a",
        b"<<: ",
        b"<<: *a\n",
        b"!",
        b"!!",
        b"!!str ",
        b"!!int ",
        b"!!binary ",
        b"!!python/name:os.system ",
    ),
    *(
        b"---\n",
        b"...\n",
        b"@",
        b"`",
        b"=",
        b" = ",
        b"[[",
        b"]]",
        b"a.b.c",
        b"//",
        b"/*",
        b"null",
        b"~",
        b"true",
    ),
    *(
        b"0",
        b"-0",
        b"1e400",
        b"-1e-400",
        b"0x",
        b"0xFFFFFFFFFFFFFFFFFFFF",
        b"0o777",
        b"1_000",
        b".5",
        b"5.",
        b"1e",
    ),
    *(
        b"9" * 400,
        b"9" * 5000,
        b"9223372036854775808",
        b"-9223372036854775809",
        b"0." + b"0" * 400 + b"1",
        b"nan",
    ),
    *(
        b".inf",
        b"-.inf",
        b".nan",
        b"1979-05-27T07:32:00Z",
        b"07:32:00",
        b"12:30:45",
        b"yes",
        b"Infinity",
        b"NaN",
    ),
    *(
        b"${env:A}",
        b"${env:",
        b"$${env:A}",
        b"${env:A:-b}",
        b"${env:HF_TOKEN}",
        b"${env:MISSING}",
        b"${env:A:-${env:A}}",
    ),
    *(
        b"extends: [b.yaml]\n",
        b'"extends": ["b.yaml"],',
        b"extends: [../b.yaml, '']\n",
        b"method: dpo\n",
        b"a" * 3000,
    ),
    *(
        b"\0",
        b"\x01",
        b"\x1b[31m",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\xf4\x90",
    ),
    *(
        part.encode()
        for part in ("\x85", "\u2028", "\u2029", "\u00a0", "\u200b", "\u202e", "\ufeff", "é", "e\u0301")
    ),
    *(
        part.encode()
        for part in (
            "日本",
            "👩‍👩‍👧",
            "\U0010ffff",
            "\ufdd0",
            "\ud7ff",
            "İ",
            "ß",
            "ﬀ",
            "٣",
            "\uff11\uff12",
            "\uff3f",
        )
    ),
    *(
        b"[" * 80,
        b"{" * 80,
        b'{"a":' * 80,
        b"- " * 80,
        b"[" * 3000,
        b"a: &a [*a, *a]\n",
        b"a.a." * 40 + b"a = 1\n",
    ),
]
SCALARS = [
    *(None, True, False, 0, 1, -1, 2, 8, 2**31 - 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**300, 10**400),
    *(
        0.0,
        -0.0,
        0.1,
        1.0,
        1.5,
        1e-7,
        5e-324,
        1e308,
        -1e308,
        1e16,
        1e22,
        "",
        " ",
        "a",
        "null",
        "true",
        "1",
        "1e5",
    ),
    *(
        "no",
        "0x10",
        "~",
        "é",
        "\u2028",
        "\0",
        "\x1b[0m",
        "a\nb",
        "a: b",
        "# a",
        "- a",
        "${env:A}",
        "${env:MISSING}",
    ),
    *(
        "${env:",
        "$${env:A}",
        "auto",
        "all",
        "all-linear",
        "(",
        "[",
        ".*(",
        "a" * 500,
        "../x",
        "/",
        "hf_secret",
    ),
    *(
        "https://u:p@host/x",
        "\\",
        '"',
        "'",
        "{}",
        "{",
        '{"a": 1}',
        "sft",
        "dpo",
        "LORA",
        "NO_PEFT",
        "steps",
        "epoch",
    ),
]
CONTAINERS = [
    [],
    {},
    [[]],
    [{}],
    {"": None},
    {"a": {"b": [1]}},
    [None],
    ["a", 1],
    {"a.b": 1, "c d": 2},
    {"<<": {}},
]
ENCODINGS = ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp037", "utf-7"]
ENVIRONMENTS = [
    {},
    {},
    {"A": "a"},
    {"A": ""},
    {"A": "${env:A}", "CHECKPOINTS_PATH": "x\ny"},
    {"LOGS_PATH": "\0", "A": "1"},
]
BASES = [
    ["missing.yaml"],
    [".", ""],
    ["a\nb\x1b[0m"],
    ["\0"],
    ["b" * 5000],
    ["é\u2028.yaml"],
    "b.yaml",
    None,
    [1],
    [],
]
ENDINGS = [".yaml", ".yaml", ".json", ".toml", ".txt"]

PATHS = [path for folder in (CASES, ROOT / "examples") for path in sorted(folder.rglob("*"))]
FILES = {path: path.read_bytes() for path in PATHS if path.suffix in INPUTS and path.stat().st_size < 100_000}


def _parsed() -> list[dict[str, Any]]:
    """Return the configs among the files as data."""
    found = []
    for path, raw in FILES.items():
        try:
            found.append(load_text(path.name, raw.decode("utf-8-sig", "replace")).data)
        except Refused:
            continue
    return [data for data in found if "apiVersion" not in data]


CONFIGS = _parsed()


def make(seed: int) -> Input:
    """Return the input of a seed, always the same one."""
    chance = random.Random(seed)
    return chance.choices([_bytes, _structure, _settings, _layers], [5, 5, 2, 2])[0](chance)


def _bytes(chance: random.Random) -> Input:
    path = chance.choice([*FILES])
    ending = path.suffix if chance.random() < 0.9 else chance.choice(ENDINGS)
    stem = chance.choice(["run"] * 9 + ["\x1b[31m\n\u2028é"])
    return _input(chance, {f"{stem}{ending}": damage(chance, FILES[path])})


def _structure(chance: random.Random) -> Input:
    return _input(chance, {"run.yaml": b""}, mutate(chance, chance.choice(CONFIGS)))


def _settings(chance: random.Random) -> Input:
    config = chance.choice(CONFIGS)
    settings = tuple(_setting(chance, config) for _ in range(chance.randint(1, 3)))
    return _input(chance, {"run.yaml": b""}, config)._replace(settings=settings)


def _layers(chance: random.Random) -> Input:
    """Return two or three layers, which may extend each other, or be the value of a key."""
    names = [f"{stem}{chance.choice(ENDINGS)}" for stem in "abc"[: chance.randint(2, 3)]]
    files = {}
    for name in names:
        data = mutate(chance, chance.choice(CONFIGS)) if chance.random() < 0.5 else _part(chance)
        if chance.random() < 0.3:
            data = {"extends": chance.choice([names[1:], [names[0]], *BASES]), **data}
        files[name] = write(data, name)
    keys = ("run_conf", "training_args.output_dir", "training_args.deepspeed", "peft_conf.peft_kwargs")
    setting_files = (f"{chance.choice(keys)}={chance.choice(names)}",) if chance.random() < 0.2 else ()
    return _input(chance, files)._replace(setting_files=setting_files)


def _input(chance: random.Random, files: dict[str, bytes], config: dict[str, Any] | None = None) -> Input:
    """Return an input of files, or of a config in any of the formats, for any machine."""
    if config is not None:
        name = f"run{chance.choice(ENDINGS)}"
        files = {name: write(config, name)}
    target = chance.choice([None, None, *packages_of_targets()])
    return Input(files, (), (), chance.choice(ENVIRONMENTS), chance.choice([1, 1, 1, 2, 3, 8, 10**6]), target)


def damage(chance: random.Random, raw: bytes) -> bytes:
    """Return the bytes with one to four pieces flipped, deleted, inserted, doubled, spliced or cut off."""
    if chance.random() < 0.03:
        return raw.decode("utf-8", "replace").encode(chance.choice(ENCODINGS), "replace")
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        raw = chance.choice(
            [_flip, _delete, _insert, _insert, _insert, _double, _splice, _truncate, _number]
        )(chance, raw)
    return raw


def _spot(chance: random.Random, raw: bytes, most: int = 60) -> tuple[int, int]:
    start = chance.randint(0, len(raw))
    return start, min(start + chance.randint(1, most), len(raw))


def _flip(chance: random.Random, raw: bytes) -> bytes:
    at, _ = _spot(chance, raw)
    return raw[:at] + bytes(byte ^ 1 << chance.randrange(8) for byte in raw[at : at + 1]) + raw[at + 1 :]


def _delete(chance: random.Random, raw: bytes) -> bytes:
    start, end = _spot(chance, raw)
    return raw[:start] + raw[end:]


def _insert(chance: random.Random, raw: bytes) -> bytes:
    at, end = _spot(chance, raw, 4)
    return raw[:at] + chance.choice(FRAGMENTS) + raw[chance.choice([at, end]) :]


def _double(chance: random.Random, raw: bytes) -> bytes:
    start, end = _spot(chance, raw, 300)
    at = chance.choice([end, chance.randint(0, len(raw))])
    return raw[:at] + raw[start:end] * chance.choice([1, 1, 2, 50]) + raw[at:]


def _splice(chance: random.Random, raw: bytes) -> bytes:
    other = chance.choice([*FILES.values()])
    return raw[: chance.randint(0, len(raw))] + other[chance.randint(0, len(other)) :]


def _truncate(chance: random.Random, raw: bytes) -> bytes:
    return raw[: chance.randint(0, len(raw))]


def _number(chance: random.Random, raw: bytes) -> bytes:
    """Put something else in the place of a number."""
    digits = [at for at, byte in enumerate(raw) if 48 <= byte <= 57]
    if not digits:
        return raw
    at = chance.choice(digits)
    return raw[:at] + chance.choice(FRAGMENTS) + raw[at + 1 :]


def mutate(chance: random.Random, data: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a config with one to three values replaced, or keys removed, renamed or moved."""
    copy: dict[str, Any] = json.loads(json.dumps(data))
    for _ in range(chance.choice([1, 1, 2, 3])):
        places = list(_places(copy))
        if places:
            _change(chance, *chance.choice(places), chance.choice(places))
    return copy


def _places(node: Any) -> Any:
    """Yield every container with each of its keys."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield node, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _change(chance: random.Random, owner: Any, key: Any, other: tuple[Any, Any]) -> None:
    kind = chance.choice(
        ["scalar", "scalar", "scalar", "container", "remove", "rename", "move", "wrap", "deep"]
    )
    if kind == "scalar":
        owner[key] = chance.choice(SCALARS)
    elif kind == "container":
        owner[key] = json.loads(json.dumps(chance.choice(CONTAINERS)))
    elif kind == "remove":
        del owner[key]
    elif kind == "wrap":
        owner[key] = [owner[key]] if chance.random() < 0.5 else {str(key): owner[key]}
    elif kind == "deep":
        for _ in range(chance.choice([3, 70])):
            owner[key] = [owner[key]] if chance.random() < 0.5 else {"a": owner[key]}
    elif isinstance(owner, dict):
        value = owner.pop(key) if kind == "rename" else json.loads(json.dumps(other[0][other[1]]))
        name = str(
            chance.choice([key, f"{key}s", key[:-1], key.upper(), "", "\n", other[1], chance.choice(SCALARS)])
        )
        owner[name] = value


def _part(chance: random.Random) -> dict[str, Any]:
    """Return a few sections of a config, damaged."""
    config = mutate(chance, chance.choice(CONFIGS))
    return {key: config[key] for key in chance.sample([*config], min(len(config), chance.randint(0, 3)))}


def _setting(chance: random.Random, config: dict[str, Any]) -> str:
    """Return a setting for a key of the config, damaged in a third of all cases."""
    node, parts = config, ""
    while isinstance(node, (dict, list)) and node and (not parts or chance.random() < 0.8):
        key = chance.choice([*node]) if isinstance(node, dict) else chance.randrange(len(node))
        parts += f"[{key}]" if isinstance(node, list) else f".{key}" if parts else str(key)
        node = node[key]
    value = chance.choice(SCALARS + CONTAINERS)
    text = value if isinstance(value, str) else json.dumps(value)
    setting = f"{parts}={text}"
    damaged = damage(chance, setting.encode("utf-8", "replace")).decode("utf-8", "replace")
    return damaged[:2000] if chance.random() < 0.4 else setting


def write(data: dict[str, Any], name: str) -> bytes:
    """Return a config as the text of a file `name`."""
    if name.endswith(".json"):
        return json.dumps(data, indent=1, ensure_ascii=False).encode("utf-8", "replace")
    if name.endswith(".toml"):
        return "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in data.items()).encode()
    return str(yaml.safe_dump(data, allow_unicode=True, sort_keys=False)).encode("utf-8", "replace")


def _toml(value: Any) -> str:
    """Return a value as TOML writes it on one line; null, which it has not, as an empty table."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return "{}" if value is None else json.dumps(value)
