"""What is frozen stays bit for bit, whatever is done to the module around it."""

import copy
import io
import warnings

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from registry.errors import InvalidRequestError
from registry.torch.freeze import freeze, unfreeze
from registry.torch.uninitialised import mark_uninitialised

HEAD = ("head.*",)


class Net(nn.Module):
    """A trunk with every kind of running statistics, and a head."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, affine=False)),
            nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
            nn.Dropout(0.5),
        )
        self.head = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

    def features(self, images):
        return self.trunk(images).mean((2, 3))

    def forward(self, images):
        return self.head(self.features(images))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def images():
    return torch.randn(6, 3, 10, 10) * 3 + 1


def through_torch_save(module):
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def train(module, steps=3, call=None):
    """Three steps of AdamW with weight decay over all parameters, as people who forget to filter do."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        module.train()
        (call or module)(images()).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def state(module, prefix):
    found = {name: each.detach().clone() for name, each in module.named_parameters() if name.startswith(prefix)}
    return found | {name: each.clone() for name, each in module.named_buffers() if name.startswith(prefix)}


def moved(module, before):
    now = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return [name for name, each in before.items() if not torch.equal(now[name], each)]


SURVIVED = {
    "as it is": lambda net: net,
    "deepcopy": copy.deepcopy,
    "torch.save": through_torch_save,
    "deepcopy of a deepcopy after torch.save": lambda net: copy.deepcopy(copy.deepcopy(through_torch_save(net))),
    "SyncBatchNorm": lambda net: keeping_head(nn.SyncBatchNorm.convert_sync_batchnorm, net),
    "SyncBatchNorm of a deepcopy": lambda net: keeping_head(
        nn.SyncBatchNorm.convert_sync_batchnorm, copy.deepcopy(net)
    ),
    "deepcopy of SyncBatchNorm": lambda net: copy.deepcopy(keeping_head(nn.SyncBatchNorm.convert_sync_batchnorm, net)),
    "torch.save of SyncBatchNorm": lambda net: through_torch_save(
        keeping_head(nn.SyncBatchNorm.convert_sync_batchnorm, net)
    ),
    "dtype": lambda net: net.double().float(),
}


def keeping_head(convert, net):
    """SyncBatchNorm refuses to train on a CPU, so it is only for what is frozen."""
    head = net.head
    net.head = nn.Identity()
    net = convert(net)
    net.head = head
    return net


@pytest.mark.parametrize("way", SURVIVED)
def test_frozen_parameters_and_buffers_stay_bit_for_bit_and_the_head_moves(net, way):
    freeze(net, HEAD)
    net = SURVIVED[way](net)
    trunk, head = state(net, "trunk"), state(net, "head")

    train(net)

    assert moved(net, trunk) == []
    assert set(moved(net, head)) == set(head)


def test_frozen_stays_frozen_when_only_a_part_of_the_forward_pass_is_called(net):
    freeze(net, HEAD)
    trunk = state(net, "trunk")
    train(net, call=net.features, steps=0)
    net.train()
    net.features(images())
    assert moved(net, trunk) == []


def test_a_part_that_is_called_by_itself_stays_frozen_after_a_conversion(net):
    freeze(net, HEAD)
    net = keeping_head(nn.SyncBatchNorm.convert_sync_batchnorm, net)
    net.train()
    net.features(images())  # would raise on a CPU in training
    assert not net.trunk[1].training


def test_averaging_keeps_what_is_frozen(net):
    freeze(net, HEAD)
    averaged = AveragedModel(net, use_buffers=True)
    trunk, head = state(averaged.module, "trunk"), state(averaged.module, "head")
    for _ in range(3):
        train(net, steps=1)
        averaged.update_parameters(net)
    averaged.train()
    averaged(images())
    assert moved(averaged.module, trunk) == []
    assert moved(averaged.module, head) != []


def test_statistics_that_update_bn_has_reset_are_no_frozen_ones(net):
    freeze(net, HEAD)
    averaged = AveragedModel(net)
    with pytest.raises(InvalidRequestError, match="update_bn"):
        update_bn([images()], averaged)


def test_a_frozen_module_trains_under_distributed_data_parallel(net, tmp_path):
    freeze(net, HEAD)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(net)
        trunk, head = state(net, "trunk"), state(net, "head")
        train(parallel)
        assert moved(net, trunk) == []
        assert set(moved(net, head)) == set(head)
        with pytest.raises(InvalidRequestError, match="DistributedDataParallel"):
            unfreeze(parallel)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("freeze_first", [True, False])
def test_a_compiled_module_keeps_what_is_frozen(net, freeze_first):
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    if not freeze_first:
        compiled(images())
    freeze(compiled, HEAD)
    trunk, head = state(net, "trunk"), state(net, "head")
    train(compiled)
    assert moved(net, trunk) == []
    assert set(moved(net, head)) == set(head)


def test_a_compiled_module_keeps_what_is_frozen_after_a_conversion(net):
    freeze(net, HEAD)
    net = keeping_head(nn.SyncBatchNorm.convert_sync_batchnorm, net)
    trunk = state(net, "trunk")
    train(torch.compile(net, backend="aot_eager", fullgraph=True))
    assert moved(net, trunk) == []


def test_tracing_and_graphs_of_fx_keep_what_is_frozen(net):
    freeze(net, HEAD)
    traced = torch.fx.symbolic_trace(net)
    before = state(traced, "trunk")
    traced.train()
    traced(images())
    assert moved(traced, before) == []
    net.train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace is deprecated, and compares two runs of Dropout
        torch.jit.trace(net, images(), check_trace=False)


def test_a_module_without_hooks_can_be_scripted_again(net):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    freeze(plain)
    unfreeze(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script is deprecated
        scripted = torch.jit.script(plain)
    with pytest.raises(InvalidRequestError, match="before it is scripted"):
        freeze(scripted)


def test_a_stale_gradient_moves_what_is_frozen_unless_it_is_cleared(net):
    net(images()).square().sum().backward()
    before = state(net, "trunk")
    by_hand = copy.deepcopy(net)
    for mine, copied in zip(net.parameters(), by_hand.parameters(), strict=True):
        copied.grad = mine.grad.clone()
    for parameter in by_hand.trunk.parameters():
        parameter.requires_grad = False
    freeze(net, HEAD)

    torch.optim.AdamW(by_hand.parameters(), lr=0.1).step()
    torch.optim.AdamW(net.parameters(), lr=0.1).step()

    assert moved(by_hand, before) != []
    assert moved(net, before) == []


def test_what_no_load_filled_is_never_frozen(net):
    mark_uninitialised(net, {"head.2.weight", "head.2.bias", "trunk.4.running_mean"})
    frozen = freeze(net)
    assert frozen.trainable == frozen.uninitialised == ["head.2.weight", "head.2.bias"]
    net.train()
    net(images())
    assert not net.trunk[1].training
    assert net.trunk[4].training


def test_a_glob_that_matches_nothing_names_near_ones(net):
    with pytest.raises(InvalidRequestError, match=r"except_='heads\.\*' matches no .* of Net. Did you mean head"):
        freeze(net, ("heads.*",))
    with pytest.raises(InvalidRequestError, match="Its modules are: trunk, head"):
        unfreeze(net, ("q.w.e.r.t.y",))
    assert all(each.requires_grad for each in net.parameters())


def test_a_module_s_name_means_all_that_is_below_it(net):
    assert freeze(net, "head").parameters == freeze(net, HEAD).parameters
    assert freeze(net, "trunk.3").trainable == [
        name for name, _ in net.named_parameters() if name.startswith("trunk.3")
    ]


def test_freezing_again_replaces_what_was_frozen(net):
    freeze(net, HEAD)
    first = [each.requires_grad for each in net.parameters()]
    freeze(net, HEAD)
    assert [each.requires_grad for each in net.parameters()] == first
    freeze(net, ("trunk.*",))
    train(net, steps=1)
    assert all(each.requires_grad for each in net.trunk.parameters())
    assert not any(each.requires_grad for each in net.head.parameters())
    assert net.trunk[1].training
    assert not net.head[1].training


def test_unfreeze_leaves_nothing_behind_and_gives_back_what_was(net):
    net.trunk[0].bias.requires_grad = False
    hooks = [len(each._forward_pre_hooks) for each in net.modules()]
    attributes = [set(vars(each)) for each in net.modules()]
    before = {name: each.requires_grad for name, each in net.named_parameters()}
    freeze(net, dropout="eval")
    unfreeze(net)
    unfreeze(net)
    assert {name: each.requires_grad for name, each in net.named_parameters()} == before
    assert [len(each._forward_pre_hooks) for each in net.modules()] == hooks
    assert [set(vars(each)) for each in net.modules()] == attributes
    assert all(each.training for each in net.modules())


@pytest.mark.parametrize("way", ["deepcopy", "torch.save", "SyncBatchNorm"])
def test_a_copy_can_be_unfrozen(net, way):
    freeze(net, HEAD)
    net = SURVIVED[way](net)
    unfreeze(net)
    assert all(each.requires_grad for each in net.parameters())
    assert not any(each._forward_pre_hooks for each in net.modules())


def test_a_part_can_be_unfrozen_by_name(net):
    freeze(net)
    rest = unfreeze(net, ("trunk.3.*", "head"))
    assert all(each.requires_grad for each in net.trunk[3].parameters())
    net.train()
    net(images())
    assert [net.trunk[1].training, net.trunk[3][1].training, net.trunk[4].training] == [False, True, False]
    assert rest.in_eval == ["trunk.1", "trunk.4"]


def test_a_part_can_be_unfrozen_by_itself(net):
    freeze(net, HEAD)
    unfreeze(net.trunk[3])
    unfreeze(net.trunk[1])
    net.train()
    net(images())
    assert [net.trunk[1].training, net.trunk[3][1].training, net.trunk[4].training] == [True, True, False]


def test_a_new_batch_norm_in_the_place_of_a_frozen_one_trains(net):
    freeze(net, HEAD)
    net.trunk[1] = nn.BatchNorm2d(4)
    net.train()
    net(images())
    assert net.trunk[1].training


def test_only_biases_train_while_statistics_stay(net):
    freeze(net, ("*.bias",))
    before = {name: each.clone() for name, each in net.named_buffers()}
    net = keeping_head(nn.SyncBatchNorm.convert_sync_batchnorm, net)
    train(net)
    assert moved(net, before) == []


def test_batch_norm_can_go_on_counting(net):
    freeze(net, HEAD, batch_norm="train")
    before = state(net, "trunk")
    train(net)
    assert set(moved(net, before)) == {
        "trunk.4.running_mean",  # torch never counts an InstanceNorm's batches
        "trunk.4.running_var",
        *(
            f"trunk.{at}.{name}"
            for at in ("1", "3.1")
            for name in ("running_mean", "running_var", "num_batches_tracked")
        ),
    }


def test_dropout_is_turned_off_where_all_is_frozen_and_only_when_asked():
    with torch.device("meta"):
        net = torchvision.models.vgg11(num_classes=10)
    assert freeze(net, ("classifier.6.*",), dropout="eval").in_eval == []
    assert freeze(net, dropout="eval").in_eval == ["classifier.2", "classifier.5"]
    assert freeze(net).in_eval == []
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    frozen = freeze(nn.ModuleDict({"encoder": encoder, "out": nn.Linear(8, 2)}), "out", dropout="eval")
    assert "encoder.self_attn" in frozen.in_eval
    encoder.train()
    assert torch.equal(encoder(torch.ones(1, 3, 8)), encoder(torch.ones(1, 3, 8)))


@pytest.mark.parametrize("spectral_norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_the_vectors_of_spectral_norm_stay(spectral_norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older one is deprecated
        net = nn.ModuleDict({"trunk": spectral_norm(nn.Linear(3, 3)), "head": nn.Linear(3, 2)})
    freeze(net, "head")
    before = state(net, "trunk")
    assert before.keys() & {"trunk.weight_u", "trunk.parametrizations.weight.0._u"}
    train(net, call=lambda _: net["head"](net["trunk"](torch.ones(2, 3))))
    assert moved(net, before) == []


def test_tied_tensors_train_when_one_of_their_names_does():
    net = nn.ModuleDict({"embed": nn.Embedding(5, 3), "trunk": nn.Linear(3, 3), "out": nn.Linear(3, 5, bias=False)})
    net["out"].weight = net["embed"].weight
    frozen = freeze(net, "out")
    assert net["embed"].weight.requires_grad
    assert frozen.tied == ["embed.weight"]
    assert "one tensor with what trains" in str(frozen)


def test_what_was_frozen_is_said_in_a_few_lines(net):
    assert str(freeze(net, HEAD)).splitlines() == [
        "FROZEN: 8 of 14 parameters, 276 of 314 numbers",
        "trains     head.0.weight, head.0.bias, head.1.weight, head.1.bias, head.2.weight, head.2.bias",
        "in eval    trunk.1, trunk.3.1, trunk.4",
    ]


@pytest.mark.parametrize(
    ("build", "head", "side"),
    [
        (lambda: torchvision.models.resnet18(num_classes=3), "fc", 32),
        (lambda: torchvision.models.densenet121(num_classes=3), "classifier", 32),
        (lambda: timm.create_model("test_efficientnet", num_classes=3), "classifier", 32),
        (lambda: timm.create_model("test_resnet", num_classes=3), "fc", 32),
    ],
)
def test_real_backbones_stay_and_their_heads_move(build, head, side):
    net = build()
    freeze(net, head)
    net = copy.deepcopy(net)
    before, mine = state(net, ""), state(net, head)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        net.train()
        net(torch.randn(2, 3, side, side)).square().sum().backward()
        optimizer.step()
    assert set(moved(net, before)) == set(mine)


def test_it_refuses_what_it_cannot_do(net):
    with pytest.raises(InvalidRequestError, match="batch_norm='off'"):
        freeze(net, batch_norm="off")
    with pytest.raises(InvalidRequestError, match=r"Only an nn.Module"):
        freeze({"weight": torch.ones(1)})
