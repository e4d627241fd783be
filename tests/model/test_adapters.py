"""Low-rank adapters: what they train, the gradient, and the model that is saved."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from apdist.config import Config, LoraConfig, ModelConfig, TrainingConfig, override
from apdist.model.adapters import add_adapters, merged
from apdist.model.descriptor import DescriptorNet
from apdist.model.names import is_adapter, plain_name
from apdist.model.pretrained import load_model
from apdist.training.job import Job
from apdist.training.learning.freezing import Freezing, build_trainable
from apdist.training.learning.parameter_groups import rate_factors
from apdist.training.mailbox import Mailbox
from apdist.training.run_folder.runs import create_run
from apdist.training.step.collectives import Workers
from apdist.training.step.recomputing import checkpoint_blocks
from apdist.training.step.sharding import shard_parameters
from apdist.training.worker import train
from tests.toy import Answer, error_of, one_graph, run_step
from tests.training.learning.test_parameter_groups import saved_vit
from tests.training.step.steps import Blocks
from tests.trainings import StopAfter, gone_on, trained, weights
from tests.workers import on_workers

pytestmark = pytest.mark.filterwarnings("ignore:::transformers", "ignore:::peft")
CPU = torch.device("cpu")


def with_adapters(backbone: str, **options: Any) -> DescriptorNet:
    """A network whose adapters are not nothing."""
    torch.manual_seed(0)
    network = DescriptorNet(ModelConfig(backbone=backbone, dim=8)).double().eval()
    add_adapters(network, LoraConfig(rank=3, alpha=5.0, **options))
    stir(network)
    return network


def stir(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if is_adapter(name):
            nn.init.normal_(parameter, 0.0, 0.1, generator)


def assert_merges(network: DescriptorNet) -> None:
    plain = DescriptorNet(network.config).double().eval()
    plain.load_state_dict(merged(network, network.state_dict()))
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), network(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backbone", ["small", "resnet18", "efficientnet_lite0"])
def test_merged_weights_give_the_same_descriptors(backbone: str) -> None:
    network = with_adapters(backbone)
    assert_merges(network)
    unmerged = {k: v for k, v in network.state_dict().items() if not is_adapter(k)}
    found = merged(network, network.state_dict())
    changed = {
        plain_name(k) for k, v in unmerged.items() if not torch.equal(found[plain_name(k)], v)
    }
    adapted = {
        name.split(".lora_A")[0] for name, _ in network.named_parameters() if ".lora_A" in name
    }
    assert changed == {f"{layer}.weight" for layer in adapted}
    assert {"small": 4, "resnet18": 20, "efficientnet_lite0": 32}[backbone] == len(changed)


def test_adapters_beside_some_layers_of_a_transformer(tmp_path: Path) -> None:
    name = saved_vit(tmp_path)
    layers = [
        n
        for n, m in DescriptorNet(ModelConfig(backbone=name)).named_modules()
        if type(m) is nn.Linear
    ]
    pattern = "*.q_proj" if any(layer.endswith(".q_proj") for layer in layers) else "*.query"
    network = with_adapters(name, targets=(pattern,))
    assert_merges(network)
    adapted = {n for n, _ in network.named_parameters() if is_adapter(n)}
    assert len(adapted) == 2 * 3
    factors = rate_factors(network, TrainingConfig(layer_decay=0.5, rates=("backbone=0.1",)))
    assert sorted({factors[n] for n in adapted}) == pytest.approx([0.0125, 0.025, 0.05])


def test_the_backbone_stays_and_the_layers_above_it_learn_unless_they_have_adapters() -> None:
    network = with_adapters("small", targets=("backbone.layers.3", "linear"))
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name in learning if not is_adapter(name)} == {"pooling.p"}
    assert {name.split(".lora")[0] for name in learning if is_adapter(name)} == {
        *("backbone.layers.3", "linear")
    }
    network = with_adapters("small")
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {"pooling.p", "linear.weight", "linear.bias"} < learning
    assert not any("base_layer" in name for name in learning)


def test_freezing_leaves_adapters_alone_and_unfreezes_no_weight_below_them() -> None:
    options = TrainingConfig(freeze=("backbone", "linear"), unfreeze_at=2)
    network = build_trainable(ModelConfig(), LoraConfig(rank=2), options)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name in learning if not is_adapter(name)} == {
        *("pooling.p", "linear.weight", "linear.bias")
    }
    assert len(learning) == 3 + 2 * 4
    Freezing(network, options).set_step(0)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name in learning if not is_adapter(name)} == {"pooling.p"}
    assert len(learning) == 1 + 2 * 4


def test_what_no_layer_is_named_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = DescriptorNet(ModelConfig())
    for pattern, message in (("backbone.layer.*", "did you mean 'backbone.layers"), ("*.norm", "")):
        with pytest.raises(
            ValueError, match=f"lora.targets: no linear layer or convolution.*{message}"
        ):
            add_adapters(network, LoraConfig(rank=2, targets=(pattern,)))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"lora.rank 2 needs peft: .*\[lora\]"):
        add_adapters(network, LoraConfig(rank=2))


def test_the_saved_model_has_plain_weights_and_loads_without_peft(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"lora.rank": 2, "lora.dropout": 0.1, "training.rates": ["*lora_B*=4"]}
    changes |= {"loss.kind": "triplet", "training.layer_decay": 0.9, "checkpoint.every_steps": 1}
    config = override(small_config, changes | {"data.eval_split": ""})
    whole_run, _ = trained(config, "whole")
    run, _ = trained(config, "stopped", StopAfter(2))
    gone_on(run)
    found, expected = weights(run), weights(whole_run)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    monkeypatch.setitem(sys.modules, "peft", None)
    network = load_model(run.uri).network
    torch.manual_seed(0)
    start = DescriptorNet(network.config).state_dict()
    moved = {name for name in start if not torch.equal(start[name], found[name])}
    convolutions = {f"backbone.layers.{k}.weight" for k in (0, 3, 6, 9)}
    assert moved == {*convolutions, "pooling.p", "linear.weight", "linear.bias"}


CASES = [
    (norm, size, checkpointed)
    for norm in ("frozen", "chunk")
    for size in (26, 6, 4)
    for checkpointed in (False, True)
]


def adapted(norm: str) -> Blocks:
    model = Blocks(batch_norm=norm)
    add_adapters(model, LoraConfig(rank=2, dropout=0.2, targets=("first", "blocks.*.linear")))
    stir(model)
    model.double()
    return model.train()


def run_adapted(sharded: bool = False) -> list[Answer]:
    answers = []
    for norm, size, is_checkpointed in CASES:
        model = adapted(norm)
        if is_checkpointed:
            checkpoint_blocks(model)
        if sharded:
            shard_parameters(model, CPU, Workers().size)
        answers.append(run_step(model, size, gather_once=sharded))
    return answers


def assert_one_graph(workers: list[list[Answer]]) -> None:
    for i, (norm, size, _) in enumerate(CASES):
        expected, buffers, _ = one_graph(adapted(norm), size)
        for answer in (worker[i] for worker in workers):
            assert answer.gradients.keys() == expected.keys()
            assert error_of(answer.gradients, expected) < 1e-10, CASES[i]
            for name, buffer in buffers.items():
                torch.testing.assert_close(answer.buffers[name], buffer, rtol=1e-10, atol=1e-12)
        assert sum(is_adapter(name) for name in expected) == 6
        assert all(bool(g.any()) for name, g in expected.items() if is_adapter(name))


def test_a_step_of_adapters_is_one_graph_over_the_batch() -> None:
    assert_one_graph(on_workers(1, run_adapted))


@pytest.mark.slow  # every worker imports peft
@pytest.mark.parametrize(("num_workers", "sharded"), [(2, False), (3, False), (2, True)])
def test_so_is_one_of_several_workers(num_workers: int, sharded: bool) -> None:
    assert_one_graph(on_workers(num_workers, run_adapted, sharded))


def train_sharded(config: Config, uri: str) -> None:
    train(Job(config, uri), Mailbox(), CPU)


@pytest.mark.slow
def test_sharded_adapters_are_saved_as_those_of_one_worker(small_config: Config) -> None:
    changes = {"lora.rank": 2, "loss.kind": "triplet", "data.eval_split": ""}
    changes |= {"training.optimizer": "sgd", "training.activations": "recompute"}
    alone, _ = trained(override(small_config, changes), "alone")
    more = {"training.parameters": "sharded", "ray.num_workers": 2, "run.name": "sharded"}
    run = create_run(override(alone.config, more), "test")
    on_workers(2, train_sharded, run.config, run.uri)
    found, expected = weights(run), weights(alone)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
