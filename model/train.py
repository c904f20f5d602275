"""Training: `tokenmill train CONFIG`, or `torchrun --nproc-per-node N -m tokenmill.model.train CONFIG` on several devices.

A step takes `batch_size` samples in the loader's order, whatever the number of ranks and of accumulated parts, so the same
documents are in the same step everywhere; `model.data.data_log` computes which.
"""

from __future__ import annotations

import argparse
import sys

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.training.config import load_train_config
from tokenmill.model.training.trainer import TrainingStopped, train


def main() -> None:
    """The command line of `python -m tokenmill.model.train`; exit codes are tokenmill's."""
    parser = argparse.ArgumentParser("python -m tokenmill.model.train", description=__doc__)
    parser.add_argument("config", help="YAML file of a training run, e.g. configs/train-laptop.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change any key of the config")
    parser.add_argument("--output", help="write here instead of the config's output")
    arguments = parser.parse_args()
    try:
        finished = train(load_train_config(arguments.config, arguments.set, arguments.output))
    except ConfigError as error:
        sys.exit(_failed(error, 2))
    except TrainingStopped as error:
        sys.exit(_failed(error, 1))
    sys.exit(0 if finished else 130)


def _failed(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
