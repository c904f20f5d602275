"""The page of a training run, in a real browser and against its metrics."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from tests.browser import browser
from tokenmill.pipeline.errors import RunError
from tokenmill.pipeline.report.training_page import POINTS, _smoothed, _thinned, training_summary, write_training_page

HOSTILE = '</pre><script>document.title = "run"</script> "onerror=alert(1) \u202egnitirw'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a trainer leaves: 3,000 steps, of which two were skipped, with an evaluation every 500."""
    losses = 5 / np.sqrt(np.arange(1, 3001)) + 2
    lines: list[dict[str, object]] = []
    for step, loss in enumerate(losses.tolist()):
        bad = step in (40, 41)
        lines.append(
            {"step": step, "loss": None if bad else loss, "gradient_norm": None if bad else 1.0, "learning_rate": 1e-3}
        )
        if step % 100 == 99:
            lines[-1] |= {"tokens_per_second": 1000.0 + step, "data_wait": 0.01}
        if step % 500 == 499:
            sources = {name: {"loss": loss, "bits_per_byte": loss / 4} for name in ("web", "<b>books</b>")}
            lines.append({"step": step, "validation_loss": loss, "bits_per_byte": loss / 3, "sources": sources})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3000, "lo')
    (tmp_path / "samples.jsonl").write_text(json.dumps({"step": 2999, "text": HOSTILE}) + "\n")
    (tmp_path / "config.yaml").write_text("output: <script>\n")
    return tmp_path


def test_the_page_tells_what_the_metrics_tell(run: Path) -> None:
    page = unescape(write_training_page(run).read_text())
    assert "3,000 steps took the loss from 7.00 to 2.09 nats a token" in page
    assert "0.6971 (step 3,000)" in page
    assert "2,549" in page  # the median of 1,099, 1,199 ... 3,999
    assert "40, 41" in page
    summary = training_summary(run)
    assert (summary["steps"], summary["skipped"], len(summary["evaluations"])) == (3000, [40, 41], 6)
    for line in summary["evaluations"]:
        assert f"{line['validation_loss']:.4f}" in page
        assert f"{line['sources']['web']['bits_per_byte']:.4f}" in page
    assert len(page) < 2_000_000


def test_curves_are_thinned_by_means() -> None:
    x, y = np.arange(10_000.0), np.random.default_rng(0).normal(size=10_000)
    y[17] = np.nan
    thin_x, thin_y = _thinned(x, y)
    assert len(thin_x) == POINTS
    assert np.isfinite(thin_y).all()
    assert np.average(thin_x, weights=np.diff(np.linspace(0, 10_000, POINTS + 1).astype(int))) == pytest.approx(
        x.mean()
    )
    assert _smoothed(np.array([1.0, np.nan, 3.0])).tolist()[0] == 1
    ramp = np.arange(1000.0)
    assert _smoothed(ramp)[500] == ramp[481:501].mean()


def test_a_run_without_steps_is_told(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match="no step was logged yet"):
        write_training_page(tmp_path)


def test_in_a_browser(run: Path) -> None:
    page = write_training_page(run)
    with browser() as shown:
        for width, dark in ((1400, False), (400, True)):
            shown.open(page, width, dark=dark)
            assert shown.evaluate("document.title").startswith(run.name)
            assert shown.evaluate("document.querySelectorAll('.chart').length") == 5
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            colors = shown.evaluate("getComputedStyle(document.body).backgroundColor")
            assert colors == ("rgb(21, 23, 26)" if dark else "rgb(255, 255, 255)")
            assert shown.evaluate("document.querySelector('details pre').textContent") == HOSTILE
            assert shown.evaluate("document.querySelectorAll('details script, details b').length") == 0
            assert "<b>books</b>" in shown.evaluate("document.querySelector('thead').textContent")
        assert not shown.complaints
