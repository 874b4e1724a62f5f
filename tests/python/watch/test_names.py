"""Names of layers, and modules that are shared."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor, nn

import netassay as na
from python.models import Mlp, assert_is_state_of, data, recording, same_states, seeded, tokens


def test_tied_weights_are_counted_once_by_storage_and_both_layers_are_measured() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.embed(x))

    model = Tied()
    with na.watch(model) as watch:
        model(tokens(4, 5))
    report = watch.report()
    assert [row.name for row in report.layers] == ["embed", "out"]
    assert report.coverage.parameters_total == report.coverage.parameters_measured == 66


def test_a_module_with_two_names_is_one_layer_and_its_alias_is_listed() -> None:
    class Aliased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    model = Aliased()
    for layers in ("*", "second", ["first", "second"]):
        with na.watch(model, layers=layers) as watch:
            model(data(10, 4))
        report = watch.report()
        assert [row.name for row in report.layers] == ["first"]
        assert report["first"].saturation.rows == 20
        assert "several_calls" in report["first"].saturation.flags
        assert dict(report.coverage.aliases) == {"first": ("second",)}
        with pytest.raises(KeyError, match="same as 'first'"):
            report["second"]
        assert report.coverage.parameters_total == 20


def test_two_watches_on_one_model_are_independent() -> None:
    model = seeded(Mlp).eval()
    with na.watch(model) as alone:
        model(data(10, 6))
        model(data(10, 6, seed=1))
    with na.watch(model) as outer, na.watch(model, layers="fc1") as inner:
        model(data(10, 6))
        inner.pause()
        model(data(10, 6, seed=1))
    assert same_states(alone, outer)
    assert inner.states["fc1", "eval"].count == 10


def test_a_watch_on_a_part_and_one_on_the_whole_have_each_their_passes() -> None:
    model = nn.Sequential(seeded(Mlp), nn.Linear(4, 2))
    with na.watch(model) as whole, na.watch(model[0]) as part:
        model(data(10, 6))
        model[0](data(5, 6))
    assert part.states["fc1", "train"].count == 15
    assert whole.states["0.fc1", "train"].count == 15
    assert whole.states["1", "train"].count == 10


def test_a_root_that_calls_itself_shows_every_row_once() -> None:
    class Recursive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor, depth: int = 2) -> Tensor:
            x = self.before(x)
            if depth:
                x = self(x, depth - 1)
            return self.after(x)

    model = Recursive()
    with recording(model) as seen, na.watch(model, precision="exact") as watch:
        model(data(10, 4))
    for key, state in watch.states.items():
        assert_is_state_of(state, np.concatenate(seen[key]))
