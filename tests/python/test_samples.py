"""netassay.sample_persistence: a model runs as it is, and what enters its layers is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netassay import NonFinite, ShapeError, UnsupportedLayout, persistence, sample_persistence
from python.models import ConvNet, Wrap, data, seeded

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "persistence.json").read_text())["witness"][0]
OPTIONS: dict[str, dict[str, Any]] = {
    "dgp": {},
    "dgp_normalize": {"joint": True},
    "dgp_var": {"standardize": True},
    "dgp_var_normalize": {"standardize": True, "joint": True},
    "dgp_approximate": {"approximate": True},
}


def witness() -> tuple[nn.Sequential, Tensor]:
    """The model and the samples of the reference values."""
    random, sizes = np.random.default_rng(REFERENCE["seed"]), REFERENCE["dims"]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        weight = (random.standard_normal((outputs, inputs)) * np.sqrt(2 / (inputs + outputs))).astype(np.float32)
        bias = (0.1 * random.standard_normal(outputs)).astype(np.float32)
        layer = nn.Linear(inputs, outputs)
        layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
        layers += [layer, nn.ReLU()]
    x = random.random((REFERENCE["batch"], sizes[0])).astype(np.float32)
    return nn.Sequential(*layers[:-1]), torch.from_numpy(x)


def mlp(dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True)), nn.Dropout(dropout), nn.Linear(5, 3, bias=False)
    )


def by_hand(model: nn.Sequential, x: Tensor, **options: Any) -> np.ndarray:
    """Of `mlp` in evaluation."""
    first, last = model[0][0], model[2]
    hidden = torch.relu(first(x))
    return persistence.sample_persistence([first.weight, last.weight], [x, hidden], **options)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


# ---- what is measured ----


@pytest.mark.parametrize("key", OPTIONS)
def test_the_reference_values_hold_for_the_model_itself(key: str) -> None:
    model, x = witness()
    found = sample_persistence(model, x, **OPTIONS[key])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.array(REFERENCE[key]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("key", OPTIONS)
def test_it_is_sample_persistence_of_what_enters_each_linear_layer(key: str) -> None:
    model, x = seeded(mlp), data(7, 6)
    assert np.array_equal(sample_persistence(model, x, **OPTIONS[key]), by_hand(model, x, **OPTIONS[key]))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_result_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    model, x = seeded(mlp), data(7, 6)
    assert np.array_equal(sample_persistence(model, x, threads=threads), by_hand(model, x))


def test_inputs_of_more_axes_are_taken_where_a_flatten_comes_first() -> None:
    model, x = seeded(mlp), data(4, 1, 2, 3)
    expected = by_hand(model, x.reshape(4, 6))
    assert np.array_equal(sample_persistence(nn.Sequential(nn.Flatten(), *model), x), expected)


def test_a_layer_that_runs_twice_is_two_layers() -> None:
    layer = nn.Linear(5, 5)
    x = data(4, 5)
    found = sample_persistence(nn.Sequential(layer, nn.Tanh(), layer), x)
    entering = [x, torch.tanh(layer(x)).detach()]
    assert np.array_equal(found, persistence.sample_persistence([layer.weight, layer.weight], entering))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_formats_are_measured_as_they_run(dtype: torch.dtype) -> None:
    model, x = seeded(mlp).to(dtype), data(4, 6, dtype=dtype)
    assert np.array_equal(sample_persistence(model, x), by_hand(model, x))


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile], ids=["DataParallel", "compile"])
def test_wrappers_are_looked_through_and_the_model_inside_is_run(wrap: Callable[..., Any]) -> None:
    model, x = seeded(mlp), data(4, 6)
    assert np.array_equal(sample_persistence(wrap(model), x), by_hand(model, x))


def test_its_vectors_show_a_shift_to_the_detector() -> None:
    model, x = seeded(mlp), data(200, 6)
    vectors, labels = sample_persistence(model, x), model(x).argmax(dim=1)
    detector = persistence.ShiftDetector().fit(vectors, labels)
    assert not detector.test(sample_persistence(model, data(100, 6, seed=1))).shifted
    assert detector.test(sample_persistence(model, data(100, 6, seed=1) * 3)).shifted


# ---- the model is left as it is ----


@pytest.mark.parametrize("training", [False, True])
def test_the_model_runs_in_its_own_mode_and_draws_what_its_forward_draws(training: bool) -> None:
    model, x = seeded(lambda: mlp(0.5)).train(training), data(50, 6)
    torch.manual_seed(3)
    found = sample_persistence(model, x)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    model(x)
    assert torch.equal(torch.get_rng_state(), after)
    assert all(module.training == training for module in model.modules())
    assert np.array_equal(found, by_hand(model, x)) != training  # in training some units are off


def test_no_gradient_no_hook_and_no_changed_parameter_is_left() -> None:
    model, x = seeded(mlp), data(4, 6).requires_grad_()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sample_persistence(model, x)
    assert torch.is_grad_enabled()
    assert x.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert hooks(model) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_autocast_is_off_while_the_model_runs() -> None:
    model, x = seeded(mlp), data(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
        found = sample_persistence(model, x)
        assert torch.is_autocast_enabled("cpu")
    assert np.array_equal(found, by_hand(model, x))


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Stop])
def test_hooks_are_removed_whatever_happens(error: type[BaseException]) -> None:
    model = seeded(mlp)

    def fail(module: nn.Module, args: Any) -> None:
        raise error

    handle = model[2].register_forward_pre_hook(fail)
    with pytest.raises(error):
        sample_persistence(model, data(4, 6))
    handle.remove()
    assert hooks(model) == 0
    assert np.array_equal(sample_persistence(model, data(4, 6)), by_hand(model, data(4, 6)))


def test_a_weight_that_its_module_makes_is_made_once_and_is_the_one_that_ran() -> None:
    def made() -> nn.Sequential:
        return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 5)), nn.ReLU(), nn.Linear(5, 3))

    model, twin, x = seeded(made), seeded(made), data(4, 6)  # in training: the norm takes a step a pass
    found = sample_persistence(model, x)
    with torch.no_grad():
        twin(x)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.buffers(), twin.buffers(), strict=True))
    assert len(list(model.buffers())) > 0
    weights = [twin.eval()[0].weight.detach(), twin[2].weight]
    entering = [x, torch.relu(twin[0](x)).detach()]
    np.testing.assert_allclose(found, persistence.sample_persistence(weights, entering), rtol=1e-6)


def test_what_an_older_weight_norm_puts_in_place_before_the_pass_is_what_ran() -> None:
    with pytest.warns(FutureWarning):
        model = nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 3)))
    with torch.no_grad():
        model[0].weight_g.mul_(2)
    x = data(4, 6)
    found = sample_persistence(model, x)
    direction = model[0].weight_v.detach()
    weight = model[0].weight_g.detach() * direction / direction.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(found, persistence.sample_persistence([weight], [x]), rtol=1e-6)


def test_other_hooks_run_and_what_they_change_is_what_enters() -> None:
    model, x = seeded(mlp), data(4, 6)
    model[2].register_forward_pre_hook(lambda module, args: (2 * args[0],))
    hidden = 2 * torch.relu(model[0][0](x)).detach()
    expected = persistence.sample_persistence([model[0][0].weight, model[2].weight], [x, hidden])
    assert np.array_equal(sample_persistence(model, x), expected)


# ---- what is no chain ----


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Wrap(nn.Linear(6, 3)), "the model is a Wrap, neither linear nor elementwise"),
        (ConvNet, "the model is a ConvNet, neither"),
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)), "'1' is a BatchNorm1d, neither"),
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.Softmax(1)), "'1' is a Softmax, neither"),
        (lambda: nn.Sequential(nn.Conv1d(6, 5, 1)), "'0' is a Conv1d: a position is no sample"),
        (lambda: nn.Sequential(nn.ReLU()), "Sequential has no linear layer"),
    ],
)
def test_anything_else_is_refused_by_the_name_of_the_module_before_it_runs(
    make: Callable[[], nn.Module], says: str
) -> None:
    model = make()
    model.register_forward_pre_hook(lambda module, args: pytest.fail("it ran"))
    expected = "expected a Sequential of linear layers and elementwise modules"
    with pytest.raises(UnsupportedLayout) as caught:
        sample_persistence(model, data(4, 6))
    assert str(caught.value).startswith(f"sample_persistence: {says}")
    assert str(caught.value).endswith(f"; {expected}")


def test_a_model_that_is_compiled_in_place_is_refused() -> None:
    model = seeded(mlp)
    model.compile()
    with pytest.raises(UnsupportedLayout, match=r"^sample_persistence: got a compiled model"):
        sample_persistence(model, data(4, 6))


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((6,), r"got activations of shape \(6,\) that enter '0.0', expected \(6, 6\) \(a Flatten before it"),
        ((4, 3, 6), r"got activations of shape \(4, 3, 6\) that enter '0.0', expected \(4, 6\) \(a Flatten before it"),
        ((4, 7), r"got activations of shape \(4, 7\) that enter '0.0', expected \(4, 6\)$"),
    ],
)
def test_samples_of_another_shape_are_an_error_that_says_what_is_expected(shape: tuple[int, ...], says: str) -> None:
    model = seeded(mlp)
    with pytest.raises(ShapeError, match=f"^sample_persistence: {says}"):
        sample_persistence(model, data(*shape))
    assert hooks(model) == 0


def test_what_is_no_model_and_what_is_no_tensor_are_type_errors() -> None:
    with pytest.raises(TypeError, match=r"^sample_persistence: got list, expected a torch\.nn\.Module$"):
        sample_persistence([], data(4, 6))
    with pytest.raises(TypeError, match=r"^sample_persistence: got ndarray, expected a torch\.Tensor of samples$"):
        sample_persistence(mlp(), data(4, 6).numpy())


def test_a_nan_names_layer_and_sample() -> None:
    x = data(4, 6)
    x[2, 1] = float("nan")
    with pytest.raises(NonFinite, match=r"^sample_persistence: got nan at \[2, 1\] of the activations for layer 0"):
        sample_persistence(seeded(mlp), x)
