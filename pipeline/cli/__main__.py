"""`python -m tokenmill.pipeline.cli`."""

from tokenmill.pipeline.cli.main import main

main()
