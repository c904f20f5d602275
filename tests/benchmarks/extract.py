"""Scores and times the extraction engines: python -m tests.benchmarks.extract [ENGINE ...]

The model of the engine `tokenmill` was trained on one half of the sites (see train_extraction), so the score that counts is
the one on the other half, on which every engine is scored. Seconds are processor seconds of one core, charset detection
included, after one page to warm up. Needs ../shared.
"""

from __future__ import annotations

import sys
import time

import pyarrow as pa

from tests.benchmarks.train_extraction import half_of, score
from tests.paths import SHARED
from tokenmill.stages.extract.stage import Extract
from tokenmill.stages.readers.options import ReadOptions
from tokenmill.stages.readers.reader import read


def main() -> None:
    batches = []
    for path in sorted((SHARED / "crawl").iterdir()):
        with path.open("rb") as file:
            batches += [batch for batch, _ in read(file, path=path.name, options=ReadOptions())]
    for engine in sys.argv[1:] or ["tokenmill", "resiliparse", "trafilatura"]:
        stage = Extract.model_validate({"engine": engine})
        stage.apply(batches[0].slice(0, 1))
        begin = time.process_time()
        done = pa.Table.from_batches([stage.apply(batch)[0] for batch in batches])
        seconds = time.process_time() - begin
        texts = dict(zip(done["url"].to_pylist(), done["text"].to_pylist(), strict=True))
        unseen = {url for url in texts if half_of(url) == 1}
        print(f"{engine}: {len(texts) / seconds:,.0f} pages/s a core")
        for name, urls in (("unseen half", unseen), ("all", set(texts))):
            segments, articles = score(urls, texts)
            print(f"  {name} ({len(urls)} pages): segment F1 {segments:.3f}, article F1 {articles:.3f}")


if __name__ == "__main__":
    main()
