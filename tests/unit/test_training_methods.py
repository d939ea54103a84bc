"""Methods around the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable

from secateur.train.method import nested


def test_the_first_method_is_the_outermost() -> None:
    told: list[str] = []

    class Telling:
        def __init__(self, name: str) -> None:
            self.name = name

        def step(self, take: Callable[[], None]) -> None:
            told.append(f"{self.name} sees gradients")
            take()
            told.append(f"{self.name} sees weights")

    nested([Telling("a"), Telling("b")], lambda: told.append("step"))
    assert told == ["a sees gradients", "b sees gradients", "step", "b sees weights", "a sees weights"]
