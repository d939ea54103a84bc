"""Devices and the links between them, as a user describes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from secateur.spec import StoreError
from secateur.spec.record import first_fault

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MISSING = 5.0
"""What a byte counts where there is no link, in bytes over the slowest: what depends on it will have to go."""


class Link(BaseModel):
    """What one link can do; `missing` ones carry nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mbit_per_s: Positive = 1000.0
    latency_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    missing: bool = False
    most_bytes: Annotated[int, Field(ge=0)] | None = None
    """What may cross for one sample, at most."""


class Between(Link):
    """A link that is not like the others: between two devices both ways, or from the first to the second. What it does
    not say is as of all links."""

    devices: tuple[int, int]
    both_ways: bool = True


class Topology(BaseModel):
    """Devices `0 .. devices - 1`. Inputs come from the home device, and outputs go there.

    devices: 4
    speeds: [2.0, 1.0, 1.0, 1.0]     # billions of multiply-accumulates a second
    memory_bytes: [null, 4000000, 4000000, 4000000]
    links: {mbit_per_s: 100, latency_ms: 2}
    unlike:
      - {devices: [0, 2], missing: true}
      - {devices: [1, 3], mbit_per_s: 10}
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    devices: Annotated[int, Field(ge=1, le=256)]
    home: Annotated[int, Field(ge=0)] = 0
    speeds: tuple[Positive, ...] | None = None
    memory_bytes: tuple[int | None, ...] | None = None
    """What a device can hold of weights."""
    links: Link = Link()
    """Every link that is not mentioned."""
    unlike: tuple[Between, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _said_of_all(cls, found: Any) -> Any:
        """Links that are unlike take from all links what they do not say themselves."""
        if not isinstance(found, Mapping):
            return found
        given: Mapping[str, Any] = found
        common, unlike = _said(given.get("links", {})), given.get("unlike", ())
        if not isinstance(common, Mapping) or not isinstance(unlike, list | tuple):
            return given
        own = [_said(link) for link in unlike]
        return {**given, "unlike": [{**common, **link} if isinstance(link, Mapping) else link for link in own]}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("speeds", "memory_bytes"):
            given = getattr(self, name)
            if given is not None and len(given) != self.devices:
                raise ValueError(f"{name} has {len(given)} entries; expected one for each of {self.devices} devices")
        if self.home >= self.devices:
            raise ValueError(f"home {self.home}; expected one of the devices 0 to {self.devices - 1}")
        if any(size is not None and size < 0 for size in self.memory_bytes or ()):
            raise ValueError(f"memory_bytes {list(self.memory_bytes or ())}; expected bytes, or null")
        for link in self.unlike:
            if not all(0 <= device < self.devices for device in link.devices) or len(set(link.devices)) != 2:
                raise ValueError(f"a link between {list(link.devices)}; expected two of 0 to {self.devices - 1}")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """From a YAML or JSON file; raises StoreError naming the field that does not fit."""
        try:
            found: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise StoreError(f"{path} cannot be read as a topology: {' '.join(str(error).split())}") from error
        return cls._checked(found, f"{path} is not a topology")

    @classmethod
    def alike(cls, devices: int) -> Self:
        """So many devices with links that are all alike; raises StoreError for a number that cannot be."""
        return cls._checked({"devices": devices}, f"{devices} devices cannot be")

    @classmethod
    def _checked(cls, found: Any, wrong: str) -> Self:
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            raise StoreError(f"{wrong}: {first_fault(error)}") from error

    def link(self, sender: int, receiver: int) -> Link:
        """The link from one device to another; of several entries the last counts."""
        found: Link = self.links
        for link in self.unlike:
            if link.devices == (sender, receiver) or (link.both_ways and link.devices == (receiver, sender)):
                found = link
        return found

    @property
    def missing(self) -> np.ndarray:
        """`(sender, receiver)`: whether there is no link."""
        return self._of_links(lambda link: link.missing, bool)

    @property
    def costs(self) -> np.ndarray:
        """`(sender, receiver)`: the time of a byte, in means of all links, those that are missing among them."""
        slowness = self._of_links(lambda link: 1 / link.mbit_per_s, float)
        found = np.where(self.missing, 0, slowness)
        found = np.where(self.missing, MISSING * (found.max() or 1.0), found)
        return found / (found.sum() / max(1, found.size - self.devices) or 1.0)

    @property
    def seconds_of_a_byte(self) -> np.ndarray:
        """`(sender, receiver)`."""
        return self._of_links(lambda link: 8e-6 / link.mbit_per_s, float)

    @property
    def latencies(self) -> np.ndarray:
        """`(sender, receiver)`: seconds."""
        return self._of_links(lambda link: link.latency_ms / 1e3, float)

    def _of_links(self, value: Any, kind: Any) -> np.ndarray:
        made = np.zeros((self.devices, self.devices), dtype=kind)
        for sender in range(self.devices):
            for receiver in range(self.devices):
                if sender != receiver:
                    made[sender, receiver] = value(self.link(sender, receiver))
        return made

    @property
    def most_bytes(self) -> np.ndarray:
        """`(sender, receiver)`: what may cross for a sample: nothing where there is no link, infinite where nothing is
        said."""
        return np.where(
            self.missing, 0, self._of_links(lambda link: np.inf if link.most_bytes is None else link.most_bytes, float)
        )

    @property
    def most_held(self) -> np.ndarray:
        """`(devices,)`: bytes of weights that a device has room for; infinite where nothing is said."""
        given = [None] * self.devices if self.memory_bytes is None else self.memory_bytes
        return np.array([np.inf if size is None else size for size in given])

    @property
    def shares(self) -> np.ndarray:
        """Of each device the share of the work that keeps all of them busy alike."""
        speeds = np.ones(self.devices) if self.speeds is None else np.asarray(self.speeds)
        return speeds / speeds.sum()


def _said(link: Any) -> Any:
    """What a link was given, without defaults."""
    return link.model_dump(exclude_unset=True) if isinstance(link, Link) else link
