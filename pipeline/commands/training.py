"""The commands of the second half: train, generate, budget. The trainer itself needs nothing of the pipeline."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tokenmill.model.common.exit_codes import INTERRUPTED
from tokenmill.model.training.run_folder import METRICS_FILE
from tokenmill.pipeline.errors import ConfigError, RunError

if TYPE_CHECKING:
    from tokenmill.model.nn.generate import TokenStreamDecoder
    from tokenmill.model.training.budget import Optimum, TrainingPlan


def train(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="The YAML file of a training run.", show_default=False)
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change any key of the config, e.g. schedule.steps=500."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", help="Write here instead of the config's `output:`.")
    ] = None,
) -> None:
    """Trains a model from shards; a run that was stopped, in whatever way, resumes exactly where it was.

    `tokenmill train configs/train-laptop.yaml`

    `tokenmill train configs/gpt2-124m.yaml --set data.path=runs/mine/shard --output train/gpt2`

    On several GPUs: `torchrun --nproc-per-node 8 -m tokenmill.model.train CONFIG --set parallel.fsdp=true`
    """
    from tokenmill.model.training.bad_steps import TrainingStopped
    from tokenmill.model.training.config import load_train_config
    from tokenmill.model.training.trainer import train as run
    from tokenmill.pipeline.commands.printing import print_documents
    from tokenmill.pipeline.commands.windows import trace
    from tokenmill.pipeline.report.training_page import write_training_page

    loaded = load_train_config(config, settings or [], output)
    folder = Path(loaded.output)
    try:
        finished = run(loaded)
    except TrainingStopped as error:
        write_training_page(folder)
        print_documents(Console(), trace(folder, error.step))
        raise RunError(str(error)) from error
    page = write_training_page(folder)
    if not finished:
        sys.exit(INTERRUPTED)
    where = escape(loaded.output)
    Console().print(f'Page: {page}\nNext: tokenmill generate {where} --prompt "..."', highlight=False, soft_wrap=True)


def generate(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="A checkpoint's folder, or a training run's (its latest).", show_default=False
        ),
    ],
    prompt: Annotated[str, typer.Option(help="What the text begins with; empty for a new document.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="New tokens, at most, within the context length.")] = 200,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Only among so many of the likeliest tokens; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Only among the likeliest that together have this probability.")] = 1.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1: tokens that are in the text already get rarer.")
    ] = 1.0,
    samples: Annotated[int, typer.Option(min=1, help="How many texts.")] = 1,
    seed: Annotated[int, typer.Option(help="Another seed, another text.")] = 0,
    device: Annotated[str | None, typer.Option(help="cuda or cpu; default: a GPU where there is one.")] = None,
) -> None:
    """Continues a text, to the terminal as it comes.

    `tokenmill generate train/laptop --prompt "The bread"`

    `tokenmill generate train/laptop --prompt "The bread" --samples 4 --temperature 1 --top-p 0.9 --seed 7`
    """
    import torch
    from tokenizers import Tokenizer

    from tokenmill.model.nn.generate import Sampling, TokenStreamDecoder
    from tokenmill.model.nn.generate import generate as write
    from tokenmill.model.training.run_folder import find_checkpoint
    from tokenmill.model.training.saved_model import load_model

    folder = find_checkpoint(checkpoint)
    if folder is None:
        raise ConfigError(
            f"{checkpoint}: holds no checkpoint; give the folder of a training run, or of a checkpoint in it"
        )
    try:
        sampling = Sampling(tokens, temperature, top_k, top_p, repetition_penalty, seed)
        model, state = load_model(folder, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # a document begins after the end of the one before it
        ids = [state.vocabulary.end_of_text, *tokenizer.encode(prompt).ids]
        if samples == 1:
            decoder = TokenStreamDecoder(tokenizer, ids)
            print(prompt, end="", flush=True)
            write(model, [ids], state.vocabulary.end_of_text, sampling, lambda step: _print(decoder, step[0]))
            print()
            return
        for number, made in enumerate(write(model, [ids] * samples, state.vocabulary.end_of_text, sampling)):
            Console().rule(f"sample {number + 1}", align="left")
            print(prompt + tokenizer.decode(ids + made)[len(tokenizer.decode(ids)) :])
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{folder}: {error}") from error


def _print(decoder: TokenStreamDecoder, token: int | None) -> None:
    if token is not None:
        print(decoder.add(token), end="", flush=True)


def is_training_run(folder: str) -> bool:
    """Whether the trainer wrote this folder."""
    return (Path(folder) / METRICS_FILE).is_file()


def report_training(folder: str, as_json: bool) -> str | None:
    """`tokenmill report` of a training run; returns the path of its page, None where none was written."""
    from tokenmill.pipeline.report.training_page import print_training_report, training_summary, write_training_page

    if as_json:
        print(json.dumps(training_summary(Path(folder)), indent=1))
        return None
    page = write_training_page(Path(folder))
    print_training_report(Console(), Path(folder))
    return str(page)


def export_model(checkpoint: Path, form: str, target: Path) -> None:
    """`tokenmill export` of a model. Raises `ConfigError` for another format, or a folder that exists."""
    from tokenmill.model.training.huggingface import export_model as write

    if form != "huggingface":
        raise ConfigError(f"a model is exported with --format huggingface, not {form!r}")
    if target.exists():
        raise ConfigError(f"{target} exists already; remove it, or give another folder with --to")
    architecture = write(checkpoint, target)
    where = escape(str(target))
    hint = f"Load it: AutoModelForCausalLM.from_pretrained('{where}')"
    Console().print(f"Written: {where} ({architecture})\n{hint}", highlight=False, soft_wrap=True)


def budget(
    flops: Annotated[float | None, typer.Option(help="A budget of compute, e.g. 1e19.")] = None,
    gpu_hours: Annotated[float | None, typer.Option(help="A budget of hours on one GPU (see --gpu).")] = None,
    tokens: Annotated[float | None, typer.Option(help="A budget of tokens, e.g. 2e9.")] = None,
    gpu: Annotated[str, typer.Option(help="h200, h100, h100-pcie, a100, l40s, rtx4090 or rtx3090.")] = "h200",
    utilization: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the GPU's peak that is reached (MFU).")
    ] = 0.4,
    vocab_size: Annotated[int, typer.Option(min=2, help="Ids of the tokenizer.")] = 32_768,
    context_length: Annotated[int, typer.Option(min=1, help="Tokens that the model sees at once.")] = 1024,
) -> None:
    """Computes how large a model to train on how many tokens, by Kaplan (2020) and Chinchilla (2022), and suggests a config.

    `tokenmill budget --flops 1e19`

    `tokenmill budget --gpu-hours 8 --gpu h200`

    `tokenmill budget --tokens 2e9 > mine.yaml` (the table goes to the terminal, the config to the file)
    """
    from tokenmill.model.training.budget import optima, plan_for
    from tokenmill.model.training.gpus import gpu_named

    chosen = gpu_named(gpu)
    if gpu_hours is not None:
        if flops is not None:
            raise ConfigError("give one budget: --flops, --gpu-hours or --tokens")
        flops = gpu_hours * 3600 * chosen.peak_flops * utilization
    kaplan, chinchilla = optima(flops, tokens)
    plan = plan_for(chinchilla, tokens, vocab_size, context_length, chosen, utilization)
    console = Console(stderr=True)
    _print_budget(console, kaplan, chinchilla, plan)
    console.print(
        f"Assumed: {utilization:.0%} of the {gpu}'s {chosen.peak_flops / 1e12:,.0f} TFLOP/s; {plan.memory / 1e9:,.0f} of its "
        f"{chosen.memory / 1e9:,.0f} GB with a micro-batch of {plan.micro_batch_size}. Constants and sources: "
        "model/training/budget.py",
        highlight=False,
    )
    print(plan.config, end="")


def _print_budget(console: Console, kaplan: Optimum, chinchilla: Optimum, plan: TrainingPlan) -> None:
    table = Table(box=None)
    for name in ("", "weights", "tokens", "tokens a weight", "FLOPs", "GPU hours"):
        table.add_column(name, justify="left" if not name else "right")
    for optimum, suffix in ((kaplan, " (without embeddings)"), (chinchilla, "")):
        ratio = optimum.tokens / optimum.weights
        row = (_short(optimum.weights), _short(optimum.tokens), f"{ratio:,.1f}", f"{optimum.flops:.2g}", "")
        table.add_row(optimum.law + suffix, *row)
    shape = plan.model
    label = f"suggested: {shape.n_layers} layers, d_model {shape.d_model}"
    ratio = plan.tokens / plan.weights
    row = (_short(plan.weights), _short(plan.tokens), f"{ratio:,.1f}", f"{plan.flops:.2g}", f"{plan.gpu_hours:,.3g}")
    table.add_row(label, *row)
    console.print(table)


def _short(count: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:,.3g} {unit}"
    return f"{count:.0f}"
