"""The machine that an analysis runs on: its devices, the size of a batch, and the engine that does its work."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from theodolite.core.errors import UserError, unknown
from theodolite.study.option import option

if TYPE_CHECKING:
    from theodolite.core.parallel import Map

EngineName = Literal["auto", "serial", "processes", "ray"]
ENGINES = get_args(EngineName)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Devices, batches and engine of an analysis; none of it is part of a Run's identity.

    >>> Machine(device="cuda:1", batch_tokens=8192).engine
    'auto'
    """

    device: str = field(default="auto", metadata=option("auto, cpu, cuda, cuda:1, mps."))
    device_map: str | Mapping[str, int | str] | None = field(
        default=None,
        metadata=option(
            "spread the model's layers over several devices: auto, balanced, sequential; instead of --device.",
            cli=str | None,
        ),
    )
    batch_tokens: int | None = field(
        default=None, metadata=option("tokens in one forward pass (default: what fits into the memory).")
    )
    engine: EngineName = field(
        default="auto",
        metadata=option(
            "where texts are read and readers fitted: serial in this process, processes of this machine, ray (needs "
            "theodolite[ray]) on a cluster, or auto."
        ),
    )

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise unknown("engine", self.engine, ENGINES)
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise UserError(f"--batch-tokens {self.batch_tokens}: give at least 1, or leave it out")
        if self.device_map is not None and self.device != "auto":
            raise UserError(
                f"device {self.device!r} and device_map {self.device_map!r} exclude each other: keep only one of "
                "--device and --device-map"
            )

    def map(self) -> "Map | None":
        """Return the `Map` of the engine; None for `auto`, where each stage chooses.

        Raises a UserError where `ray` is asked for and not installed.
        """
        from theodolite.study.parallel import engine_map

        return engine_map(self.engine)


DEFAULT = Machine()
