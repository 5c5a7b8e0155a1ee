"""Run Datasette with time limits that a busy machine can meet, for tests in a browser.

In tests/: python -m programs.patient_datasette ARGUMENTS…
"""

from datasette.cli import cli

from support.config import set_config

if __name__ == "__main__":
    set_config(
        query_decode_seconds=100,
        quick_decode_seconds=50,
        max_slow_seconds_waiting=1000,
        upload_seconds=300,
        hook_seconds=60,
    )
    cli(prog_name="datasette")
