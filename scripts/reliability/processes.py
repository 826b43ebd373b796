"""Two processes begin a toy training and are stopped, one goes on: how far it ends from two that were not stopped.

    python scripts/reliability/processes.py --out FOLDER [--system medfuse]

An update takes as many batches: train.accumulation is 1 for two processes and 2 for one. Prints the largest difference
of a weight and of a running statistic. Exit code 1 where the one does not go on, or logs other steps.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import child as children  # noqa: E402
from linux import require_linux  # noqa: E402
from toys import SYSTEMS, command, make_phantom  # noqa: E402

STOP_AFTER = 3  # steps


def free_port() -> str:
    """For the two to meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def together(arguments: list[str], logs: Path, name: str, stop: bool) -> None:
    """Two processes, as torchrun starts them; `stop` asks the first one to stop after some steps."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    pair = [
        children.start(arguments, logs / f"{name}-{rank}.txt", shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    while pair[0].status is None:
        pair[0].listen(300)
        if stop and pair[0].seen.count("step") >= STOP_AFTER and pair[0].status is None:
            os.kill(pair[0].pid, signal.SIGTERM)
            stop = False
    while pair[1].status is None:
        pair[1].listen(300)
    if {process.status for process in pair} - {0, 130}:
        raise SystemExit(f"two processes failed:\n{pair[0].said()[-2000:]}\n{pair[1].said()[-2000:]}")


def steps(run: Path) -> list[dict]:
    """The records of steps in the log of a run."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [record for record in records if "losses" in record]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a scratch folder; its content is replaced")
    parser.add_argument("--system", default="medfuse", choices=[name for name in SYSTEMS if name != "trrg"])
    options = parser.parse_args()
    require_linux()
    out = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    (out / "logs").mkdir(parents=True)
    children.preload()
    phantom = make_phantom(out / "phantom")
    runs = {name: out / name for name in ("whole", "stopped")}
    for name, run in runs.items():
        arguments = ["train", *command(options.system, out, phantom, run)]
        together(arguments, out / "logs", name, stop=name == "stopped")
    begun = len(steps(runs["stopped"]))
    for wanted, accumulation in (((2,), 1), ((0,), 2)):  # the first is another training, and is refused
        process = children.start([*arguments, f"train.accumulation={accumulation}"], out / "logs" / "alone.txt")
        while process.status is None:
            process.listen(300)
        if process.status not in wanted:
            raise SystemExit(f"one process with accumulation {accumulation}:\n{process.said()[-2000:]}")
        print("\n".join(line for line in process.said().splitlines() if "processes" in line))
    from safetensors.torch import load_file

    whole, gone_on = (load_file(run / "checkpoints/last/model.safetensors") for run in runs.values())
    apart = {True: 0.0, False: 0.0}
    for name, weight in whole.items():
        if weight.is_floating_point():
            statistic = ".running_" in name  # of batch norm: one process sees all batches, each of two its half
            apart[statistic] = max(apart[statistic], float((weight.double() - gone_on[name].double()).abs().max()))
    last = [steps(run)[-1]["step"] for run in runs.values()]
    print(f"{begun} steps by two processes, then one: {last[1]} updates (undisturbed: {last[0]})")
    print(f"largest difference of a weight {apart[False]:.1e}, of a running statistic {apart[True]:.1e}")
    return 0 if last[0] == last[1] else 1


if __name__ == "__main__":
    sys.exit(main())
