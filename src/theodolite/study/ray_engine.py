"""Work on Ray (the engine `ray`): local workers, or those of the cluster that RAY_ADDRESS names."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from theodolite.core.errors import UserError
from theodolite.core.parallel import TRIES, Build, done_in_worker, worker_died


class OnRay:
    """A `Map` over Ray tasks of one core each; Ray itself does the items of a worker that died again.

    Files that the work writes have to lie where this process and every worker see them. Where a build says how much
    `memory` its worker takes (bytes), no more workers run than have it.
    """

    def __init__(self) -> None:
        try:
            import ray
        except ImportError:
            raise UserError(
                "--engine ray needs Ray: pip install 'theodolite[ray]', or choose --engine processes, which uses "
                "the cores of this machine"
            ) from None
        self._ray = ray

    def __call__(self, build: Build, items: Sequence[Any]) -> Iterator[Any]:
        """Yield the results; see `Map`."""
        ray = self._ray
        _start(ray)
        memory, most = getattr(build, "memory", 0), ray.cluster_resources().get("memory", 0)
        if memory > most:
            raise UserError(
                f"a worker needs {memory / 2**30:.1f} GiB, all of Ray has {most / 2**30:.1f}: choose "
                "--engine serial, or start Ray where more memory is free"
            )
        task = ray.remote(done_in_worker).options(num_cpus=1, memory=memory or None, max_retries=TRIES - 1)
        under_way = {task.remote(build, item): item for item in items}
        try:
            while under_way:
                finished, _ = ray.wait(list(under_way), num_returns=1)
                item = under_way.pop(finished[0])
                try:
                    result = ray.get(finished[0])
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                    raise worker_died(item) from None
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None  # the error of the work itself, as from any other map
                yield result
        finally:
            for waiting in under_way:  # what is left after an error or Ctrl-C
                ray.cancel(waiting, force=True)


def _start(ray: Any) -> None:
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    # options of a cluster may only be given to one that begins here
    own = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    ray.init(log_to_driver=False, logging_level="ERROR", **own)
