"""Training: `tokenmill train CONFIG`, or `torchrun --nproc-per-node N -m tokenmill.model.train CONFIG` on several devices."""

from __future__ import annotations

import argparse
import sys

from tokenmill.model.common.config_file import ConfigError
from tokenmill.model.common.exit_codes import DONE, FAILED, INTERRUPTED, WRONG_USAGE
from tokenmill.model.training.bad_steps import TrainingStopped
from tokenmill.model.training.config import load_train_config
from tokenmill.model.training.trainer import train


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
        sys.exit(_failed(error, WRONG_USAGE))
    except TrainingStopped as error:
        sys.exit(_failed(error, FAILED))
    sys.exit(DONE if finished else INTERRUPTED)


def _failed(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
