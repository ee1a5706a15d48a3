"""Nothing that a run did not write itself is replaced or lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from silogen_compiler.diagnostics import Refused
from silogen_config import ResolvedConfig
from silogen_runtime.checkpoints import choose_start
from silogen_runtime.machine import check_machine
from tiny import LORA


@pytest.fixture
def refusals(resolve):
    """Return a function that tells what is wrong with the output folder of a config."""

    def find(args=(), **names) -> list[str]:
        config = ResolvedConfig.model_validate(resolve(args=args, run=names))
        return [d.message for d in check_machine(config) if d.code == "SG726"]

    return find


@pytest.mark.parametrize("key", ["final_checkpoint_name", "save_name_if_new_basemodel"])
@pytest.mark.parametrize("name", ["", ".", "..", "../x", "../../x", "a/b", "/tmp/x", "./x", "x/"])
def test_a_name_stays_inside_the_output_folder(refusals, key, name):
    assert refusals(**{key: name}) == [f"{key} `{name}` is not a plain name of a folder inside `output_dir`"]


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint-12",
        "metrics.jsonl",
        "resolved.json",
        "resolved.lock.json",
        "versions.json",
        "loss.png",
        "report.html",
    ],
)
def test_a_name_is_not_one_that_the_run_gives(refusals, name):
    assert refusals(final_checkpoint_name=name) == [
        f"final_checkpoint_name `{name}` is a name that the run itself gives"
    ]


def test_the_two_names_differ(refusals):
    assert refusals(final_checkpoint_name="x", save_name_if_new_basemodel="x") == [
        "final_checkpoint_name and save_name_if_new_basemodel are the same"
    ]
    assert refusals(save_name_if_new_basemodel=None) == []


def test_a_folder_of_other_files_is_not_replaced(resolve, run, tmp_path, monkeypatch):
    monkeypatch.delattr("silogen_runtime.train.load_tokenizer")
    precious = tmp_path / "out" / "checkpoint-final"
    precious.mkdir(parents=True)
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(Refused, match=r"SG726: final_checkpoint_name .* does not look like a saved model"):
        run(resolve())
    assert (precious / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json", "tokenizer_config.json", None])
def test_an_empty_folder_or_a_saved_model_is_replaced(refusals, tmp_path, file):
    saved = tmp_path / "out" / "checkpoint-final"
    saved.mkdir(parents=True)
    if file:
        (saved / file).touch()
    assert refusals() == []


def test_a_file_is_not_replaced(refusals, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint-final").touch()
    assert refusals() == ["final_checkpoint_name `checkpoint-final` is a file already"]


def test_the_model_that_a_run_starts_from_is_not_replaced(refusals, byte_level_model):
    model = Path(byte_level_model)
    assert refusals({"output_dir": str(model.parent)}, final_checkpoint_name=model.name) == [
        f"final_checkpoint_name `{model.name}` is the folder of the model that the run starts from"
    ]


@pytest.mark.parametrize("args", [{"output_dir": ""}, {"output_dir": " "}, {"output_dir": None}])
def test_an_output_folder_is_named(refusals, args):
    assert refusals(args) == ["`output_dir` is empty"]


def test_a_config_without_an_output_folder_is_refused(resolve, run):
    config = resolve(run={"resume_from_checkpoint": True})
    del config["trainer"]["args"]["output_dir"]
    with pytest.raises(Refused, match="SG726: `output_dir` is empty"):
        run(config)


def test_the_output_folder_is_no_file(refusals, tmp_path):
    (tmp_path / "out").touch()
    assert refusals() == [f"output_dir `{tmp_path}/out` is a file"]


def test_everything_goes_to_the_home_folder_for_a_tilde(resolve, run, tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    args = {"output_dir": "~/out", "save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    config = resolve(args=args, peft=LORA, template="keep-original")
    outcome, _ = run(config)
    assert outcome.final_checkpoint == home / "out" / "checkpoint-final"
    ours = {"checkpoint-1", "checkpoint-final", "loss.png", "metrics.jsonl", "report.html", "resolved.json"}
    assert ours <= {path.name for path in (home / "out").iterdir()}
    assert list(here.iterdir()) == []
    config["run"]["resume_from_checkpoint"] = True
    start = choose_start(ResolvedConfig.model_validate(config))
    assert start.checkpoint == home / "out" / "checkpoint-1"
