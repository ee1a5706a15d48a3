"""The hand-written schemas: well formed, in one style, and true to the libraries."""

from __future__ import annotations

import json
from functools import cache

import jsonschema
import jsonschema_rs
import pytest
import silogen_config
from paths import ROOT
from silogen_compiler.load import load_text
from silogen_docs.bundle import load_bundle, validation_form

SCHEMAS = {path.name.partition(".")[0]: path for path in sorted((ROOT / "schema").glob("*.schema.json"))}
TARGET = json.loads((ROOT / "schema" / "targets" / "hf-2026.11.json").read_text())
CASES = ROOT / "tests" / "cases"

# Where silogen's defaults are not the library's: the original engine's folder, and its older switch.
OWN_DEFAULTS = {"output_dir", "gradient_checkpointing"}
BATCH_KEYS = {"per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"}


def nodes(node):
    """Return every schema inside a schema."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in ("default", "enum", "const"):
                yield from nodes(value)
    elif isinstance(node, list):
        for item in node:
            yield from nodes(item)


def load(name):
    return json.loads(SCHEMAS[name].read_text("utf-8"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_well_formed(name):
    jsonschema.Draft202012Validator.check_schema(load(name))


@pytest.mark.parametrize("name", SCHEMAS)
def test_style(name):
    for title, definition in load(name)["$defs"].items():
        assert definition["title"] == title
        for key, prop in definition.get("properties", {}).items():
            assert prop["description"].endswith("."), key
            assert "TODO" not in prop["description"]
    for node in nodes(load(name)):
        if isinstance(node.get("type"), list):
            assert "null" not in node["type"][1:], node
        if "const" in node and isinstance(node["const"], str):
            assert node["type"] == "string", node
        if "discriminator" in node:
            assert set(node["discriminator"]["mapping"].values()) == {ref["$ref"] for ref in node["oneOf"]}


@pytest.mark.parametrize("root", ["experiment", "resolved"])
def test_defaults_are_values_that_the_schema_takes(root):
    bundle = load_bundle(root)
    for node in nodes(bundle):
        if "default" in node:
            schema = {**node, "$defs": bundle["$defs"]}
            jsonschema.Draft202012Validator(schema).validate(node["default"])


def test_descriptions_are_written_once_each():
    properties = load("training_args")["$defs"]["SilogenTrainingArguments"]["properties"]
    texts = [prop["description"] for prop in properties.values()]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize(
    ("name", "definition", "cls", "hidden"),
    [
        ("training_args", "SilogenTrainingArguments", "TrainingArguments", BATCH_KEYS),
        (
            "peft_kwargs",
            "LoraKwargs",
            "LoraConfig",
            {"task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path"}
            | {"inference_mode", "runtime_config", "revision"},
        ),
    ],
)
def test_the_schema_has_every_argument_with_its_default(name, definition, cls, hidden):
    properties = load(name)["$defs"][definition]["properties"]
    surface = TARGET["classes"][cls]
    own = {key for key, prop in properties.items() if not prop.get("deprecated") and key != "logging_dir"}
    assert own == surface.keys() - hidden
    for key in own - OWN_DEFAULTS:
        assert properties[key]["default"] == surface[key]["default"], key
        if "choices" in surface[key]:
            assert set(surface[key]["choices"]) <= set(properties[key]["enum"]), key


def test_no_batch_key_is_a_property():
    assert not BATCH_KEYS & load("training_args")["$defs"]["SilogenTrainingArguments"]["properties"].keys()


# JSON Schema takes 16.0 as a whole number, strict models do not.
DIFFERENT = {"whole-numbers-as-floats.yaml"}


def configs():
    """Return the data of every case that can be read."""
    for folder in ("valid", "invalid"):
        for path in sorted((CASES / folder).iterdir()):
            is_input = path.suffix in (".yaml", ".json", ".toml") and ".resolved" not in path.suffixes
            if is_input and path.name not in DIFFERENT:
                try:
                    yield path.name, load_text(path.name, path.read_text("utf-8-sig")).data
                except Exception as error:  # noqa: BLE001 - what cannot be read is not this test's matter
                    assert type(error).__name__ in ("Refused", "UnicodeDecodeError")  # noqa: PT017


@pytest.mark.parametrize(("name", "data"), list(configs()))
def test_both_forms_and_the_models_agree(name, data):
    """The authored form, the form that validates, and the Pydantic models take the same configs."""
    del name
    data.setdefault("method", "sft")
    if isinstance(data.get("quant_conf"), dict):
        data["quant_conf"].setdefault("quantization_type", "bits-and-bytes")
    if data.get("quant_conf") == {"quantization_type": "bits-and-bytes"}:
        del data["quant_conf"]
    authored, validated = (form.is_valid(data) for form in _forms())
    assert validated == authored
    assert _model_takes(data) == authored


@cache
def _forms():
    authored = load_bundle("experiment")
    return [jsonschema_rs.Draft202012Validator(form) for form in (authored, validation_form(authored))]


def _model_takes(data):
    models = {"sft": silogen_config.SFTExperimentConfig, "dpo": silogen_config.DPOExperimentConfig}
    try:
        models[data["method"]].model_validate(data, strict=True)
    except (KeyError, ValueError):
        return False
    return True
