"""The machine that an analysis runs on: where its passes and fits run, and how much goes at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from theodolite.core.errors import UserError
from theodolite.study.option import option

PROCESSES = "processes"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and in which portions an analysis runs; none of it is part of what is asked for, so of no Run's identity.

    >>> Machine(device="cuda:1", batch_tokens=8192).engine
    'processes'
    """

    device: str = field(default="auto", metadata=option("auto, cpu, cuda, cuda:1, mps."))
    device_map: str | Mapping[str, int | str] | None = field(
        default=None,
        metadata=option(
            "spread the model's layers over several devices: auto, balanced, sequential (needs accelerate); instead of "
            "--device.",
            cli=str | None,
        ),
    )
    batch_tokens: int | None = field(
        default=None, metadata=option("tokens in one forward pass (default: what fits into the memory).")
    )
    engine: str = field(
        default=PROCESSES, metadata=option("what runs independent pieces of work: processes of this machine.", cli=None)
    )

    def __post_init__(self) -> None:
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise UserError(f"--batch-tokens {self.batch_tokens}: give at least 1, or leave it out")
        if self.device_map is not None and self.device != "auto":
            raise UserError(
                f"device {self.device!r} and device_map {self.device_map!r} exclude each other: give --device or "
                "--device-map"
            )


DEFAULT = Machine()
