"""The sample crawl of the quickstart: its texts and the generator that makes its files, byte for byte."""
