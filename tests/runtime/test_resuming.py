"""A run goes on only from a checkpoint of its own config: what may differ, and what a person is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import silogen_runtime
from click.testing import CliRunner
from rich.console import Console
from silogen_compiler.cli import silogen
from silogen_compiler.diagnostics import Refused
from silogen_compiler.emit import add_digest
from silogen_compiler.lock import read_lock
from silogen_runtime import resuming
from silogen_runtime.cli import train_command
from silogen_runtime.resuming import check_resumed
from silogen_runtime.train import train
from test_resume import resume, with_args
from tiny import LORA, resolved_config

SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, byte_level_model):
    """Return a config that was trained for a step, with the folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    config = add_digest(resolved_config(folder, model=byte_level_model, args=SAVING))
    train(config, console=Console(quiet=True))
    return config, folder / "out" / "checkpoint-1"


@pytest.fixture
def found(trained):
    """Return a function that tells what is found when the config is changed: its codes, keys and help."""
    config, checkpoint = trained

    def check(change, **how):
        changed = json.loads(json.dumps(config))
        change(changed)
        return check_resumed(changed, checkpoint, **how)

    return check


def args(**changes):
    return lambda config: config["trainer"]["args"].update(changes)


def section(name, **changes):
    return lambda config: config[name].update(changes)


def several(*changes):
    return lambda config: [change(config) for change in changes]


def batch(size, accumulation, processes=1, **launch):
    shares = args(per_device_train_batch_size=size, gradient_accumulation_steps=accumulation)
    return several(shares, section("launch", world_size=processes, **launch))


@pytest.mark.parametrize(
    "change",
    [
        several(),
        args(logging_steps=7, save_steps=5, save_total_limit=1, report_to=["mlflow"], output_dir="elsewhere"),
        args(per_device_eval_batch_size=1, dataloader_num_workers=2, max_steps=5),  # constant learning rate
        several(section("run", final_checkpoint_name="end"), section("trainer", environment={"A": "1"})),
        lambda config: config["model"]["from_pretrained"].update(device_map=None, cache_dir="cache"),
        lambda config: config.update(tracking={"mlflow_server_uri": "sqlite:////tmp/x.db"}),
    ],
)
def test_what_changes_no_weights_may_differ(found, change):
    assert found(change) == []


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (args(seed=7), "`trainer.args.seed` was 42"),
        (batch(8, 1), "`trainer.args.per_device_train_batch_size` was 4, is 8"),
        (batch(4, 1, 2, strategy="ddp"), "`launch.world_size` was 1, is 2"),
        (section("data", max_length=128), "`data.max_length` was 256, is 128"),
        (args(a_key_of_tomorrow=1), "`trainer.args.a_key_of_tomorrow` is 1, and was not there"),
    ],
)
def test_what_changes_the_weights_is_refused_or_allowed(found, change, key):
    refused = found(change)
    assert {finding.code for finding in refused} == {"SG760"}
    assert key in "\n".join(finding.message for finding in refused)
    assert "`silogen train --allow-changes` goes on" in refused[-1].help
    (allowed,) = found(change, allow_changes=True)
    assert (allowed.code, allowed.help) == ("SG761", resuming.MIXED)
    assert key in allowed.message


@pytest.mark.parametrize("allow_changes", [False, True])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (args(learning_rate=0.5), f"learning_rate` was 0.01, is 0.5: {resuming.HELD}"),
        (args(weight_decay=0.5), f"weight_decay` was 0.0, is 0.5: {resuming.HELD}"),
        (args(adam_beta1=0.5), f"adam_beta1` was 0.9, is 0.5: {resuming.HELD}"),
        (args(optim_args="eps=1e-3"), f'optim_args` was null, is "eps=1e-3": {resuming.HELD}'),
        (args(optim="adafactor"), f"is adafactor: {resuming.UNLIKE}"),
    ],
)
def test_what_the_optimizer_would_keep_is_never_allowed(found, change, said, allow_changes):
    (finding,) = found(change, allow_changes=allow_changes)
    assert finding.code == "SG760"
    assert finding.message.endswith(said)
    assert "name `" in finding.help


@pytest.mark.parametrize(
    ("change", "key", "effect"),
    [
        (lambda config: config.update(peft=LORA), "`peft.class` is LoraConfig", resuming.OTHER),
        (batch(4, 1, 1, strategy="deepspeed"), "`launch.strategy` was single", resuming.LAYOUT),
        (batch(2, 1, 2, strategy="fsdp"), "`launch.world_size` was 1, is 2", resuming.LAYOUT),
    ],
)
def test_what_does_not_fit_the_checkpoint_is_never_allowed(found, change, key, effect):
    refused = [finding for finding in found(change, allow_changes=True) if finding.code == "SG760"]
    assert any(key in finding.message and finding.message.endswith(effect) for finding in refused)
    assert refused[-1].help == "change it back, or start anew with another `output_dir`"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, byte_level_model):
    """Return a config of an adapter that was trained for a step, to go on from there for one more."""
    folder = tmp_path_factory.mktemp("adapter")
    config = resolved_config(
        folder, model=byte_level_model, template="keep-original", peft=lora(target_modules=["q_proj"])
    )
    train(with_args(config, **SAVING), console=Console(quiet=True))
    return resume(with_args(config, **{**SAVING, "max_steps": 2}), how=str(folder / "out" / "checkpoint-1"))


def lora(**changes):
    return {**LORA, "kwargs": {**LORA["kwargs"], **changes}}


@pytest.mark.parametrize(
    "changes",
    [
        {"r": 4},
        {"target_modules": ["k_proj"]},  # of the same shape, so PEFT would start it anew in silence
        {"target_modules": ["q_proj", "k_proj"]},
        {"modules_to_save": ["lm_head"]},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 4}},
        {"layers_to_transform": [0]},
        {"init_lora_weights": "pissa"},  # changes the base
    ],
)
def test_another_shape_of_an_adapter_is_never_allowed(adapter, changes):
    kwargs = {"target_modules": ["q_proj"], **changes}
    with pytest.raises(Refused, match=f"SG760: .*{resuming.OTHER}"):
        train({**adapter, "peft": lora(**kwargs)}, console=Console(quiet=True), allow_changes=True)


def test_another_scale_of_an_adapter_is_allowed(adapter):
    peft = lora(target_modules=["q_proj"], lora_alpha=4, lora_dropout=0.0, use_rslora=True)
    with pytest.raises(Refused, match="SG760"):
        train({**adapter, "peft": peft}, console=Console(quiet=True))
    outcome = train({**adapter, "peft": peft}, console=Console(quiet=True), allow_changes=True)
    assert outcome.steps == 2


def test_a_checkpoint_without_an_optimizer_goes_on_with_another(resolve, run):
    config = with_args(resolve(), **SAVING, save_only_model=True)
    run(config)
    changed = resume(with_args(config, max_steps=2, learning_rate=0.5, optim="sgd"), how="auto")
    with pytest.raises(Refused, match=f"SG760: .*learning_rate.*{resuming.MIXED}"):
        run(changed)
    rest = train(changed, console=Console(quiet=True), allow_changes=True)
    assert [finding.code for finding in rest.warnings] == ["SG732", "SG761"]


@pytest.mark.parametrize(
    ("change", "effect"),
    [
        (args(max_steps=9, lr_scheduler_type="linear"), None),
        (batch(2, 2), resuming.ROUNDING),
        (batch(2, 1, 2, strategy="ddp"), resuming.ROUNDING),
        (args(gradient_checkpointing=True, eval_steps=5), resuming.ROUNDING),
        (section("target", transformers="5.23.1"), resuming.ROUNDING),
    ],
)
def test_what_changes_the_weights_a_little_is_told(found, change, effect):
    findings = found(change)
    told = [(finding.code, finding.help) for finding in findings if finding.code == "SG761"]
    assert told == [("SG761", effect or resuming.SCHEDULE)]


def test_other_data_is_refused(trained, found):
    config, _ = trained
    data = Path(config["data"]["train"]["datasets"][0]["path"])
    content = data.read_bytes()
    data.write_bytes(content * 2)
    try:
        (finding,) = found(several())
    finally:
        data.write_bytes(content)
    assert finding.message.endswith(
        f"`{data}` holds other data: the steps so far were trained with the old value"
    )


def test_other_versions_are_told(found, monkeypatch):
    monkeypatch.setattr(resuming, "installed_versions", lambda: {"torch": "3.0"})
    (finding,) = found(several())
    assert finding.code == "SG761"
    assert finding.message.endswith(", is 3.0")


def test_a_refused_run_leaves_all_as_it_was(trained):
    config, checkpoint = trained
    before = (checkpoint.parent / "resolved.json").read_bytes()
    with pytest.raises(
        Refused, match=r"SG760: can't resume from .*checkpoint-1`: `trainer.args.seed` was 42, is 1"
    ):
        train(resume(with_args(config, seed=1), how="auto"), console=Console(quiet=True))
    assert (checkpoint.parent / "resolved.json").read_bytes() == before


def test_every_folder_holds_the_config_the_lock_and_the_versions(trained):
    config, checkpoint = trained
    for folder in (checkpoint, checkpoint.parent, checkpoint.parent / "checkpoint-final"):
        assert json.loads((folder / "resolved.json").read_bytes()) == config
        assert read_lock(str(folder / "resolved.lock.json"))["resolved"] == config
        versions = json.loads((folder / "versions.json").read_bytes())
        assert versions["transformers"] == config["target"]["transformers"]
        assert {"python", "torch", "peft", "trl", "datasets"} <= versions.keys()


def test_what_a_run_left_is_locked(trained):
    config, checkpoint = trained
    data = Path(config["data"]["train"]["datasets"][0]["path"])
    content = data.read_bytes()
    data.write_bytes(content * 2)
    try:
        result = CliRunner().invoke(train_command, [str(checkpoint.parent / "resolved.json"), "--locked"])
    finally:
        data.write_bytes(content)
    assert result.exit_code == 3
    assert f"error[SG120]: `{data}` has changed since the lock was written" in result.stderr


def test_a_checkpoint_is_a_side_of_a_comparison(trained, tmp_path):
    config, checkpoint = trained
    changed = tmp_path / "resolved.json"
    changed.write_text(json.dumps(add_digest(with_args(config, seed=1))))
    result = CliRunner().invoke(silogen, ["diff", str(checkpoint), str(changed)])
    assert result.exit_code == 3
    assert "trainer.args.seed: 42 → 1" in result.output


def test_every_argument_of_the_tables_is_one_of_the_trainers():
    targets = Path(silogen_runtime.__file__).parents[2] / "schema" / "targets"
    classes = [json.loads(file.read_text())["classes"] for file in targets.glob("*.json")]
    known = {name for each in classes for kind in ("SFTConfig", "DPOConfig") for name in each.get(kind, ())}
    for _, names in resuming.ARGUMENTS:
        for name in names.split():
            assert any(each.startswith(name.split(".")[0].rstrip("*")) for each in known), name
