"""The processors of a container are those of its quota, not those of its host."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from datasette_clip_search.common.cores import quota, unescaped

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 30 0:27 {top} /sys/fs/cgroup/{cpu} rw,nosuid - cgroup cgroup rw,{cpu}\n"
    "32 30 0:28 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
)


def v1_files(folder: str, time: object, period: object = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{time}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


CG = "sys/fs/cgroup"
CASES = {
    "nothing is known": ({}, None),
    "version 2, in a container": (
        {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2, f"{CG}/cpu.max": "200000 100000"},
        2,
    ),
    "version 2, without a quota": (
        {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2, f"{CG}/cpu.max": "max 100000"},
        None,
    ),
    "version 2, of a service": (
        {
            "proc/self/cgroup": "0::/system.slice/photos.service\n",
            "proc/self/mountinfo": V2,
            f"{CG}/system.slice/cpu.max": "max 100000",
            f"{CG}/system.slice/photos.service/cpu.max": "150000 100000",
        },
        1.5,
    ),
    "version 2, of a group around": (
        {
            "proc/self/cgroup": "0::/kube/pod/container\n",
            "proc/self/mountinfo": V2,
            f"{CG}/kube/pod/cpu.max": "50000 100000",
            f"{CG}/kube/pod/container/cpu.max": "400000 100000",
        },
        0.5,
    ),
    "version 2, a namespace that hides where the group is": (
        {
            "proc/self/cgroup": "0::/../../other\n",
            "proc/self/mountinfo": V2,
            f"{CG}/cpu.max": "300000 100000",
        },
        3,
    ),
    "version 2, /proc is hidden": ({f"{CG}/cpu.max": "300000 100000"}, 3),
    "version 1, in a container": (
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
            "proc/self/mountinfo": V1.format(top="/docker/abc", cpu="cpu,cpuacct"),
            **v1_files(f"{CG}/cpu,cpuacct", 250_000),
        },
        2.5,
    ),
    "version 1, of a group around": (
        {
            "proc/self/cgroup": "3:cpu:/a/b\n",
            "proc/self/mountinfo": V1.format(top="/", cpu="cpu"),
            **v1_files(f"{CG}/cpu/a", 100_000, 50_000),
            **v1_files(f"{CG}/cpu/a/b", -1),
        },
        2,
    ),
    "version 1, without a quota": (
        {
            "proc/self/cgroup": "3:cpu:/\n",
            "proc/self/mountinfo": V1.format(top="/", cpu="cpu"),
            **v1_files(f"{CG}/cpu", -1),
        },
        None,
    ),
    "both versions": (
        {
            "proc/self/cgroup": "3:cpu:/a\n0::/a\n",
            "proc/self/mountinfo": V1.format(top="/", cpu="cpu")
            + V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
            **v1_files(f"{CG}/cpu/a", 400_000),
        },
        4,
    ),
    "files that make no sense": (
        {
            "proc/self/cgroup": "nonsense\n0::/\n",
            "proc/self/mountinfo": "nonsense\n\n1 - 2\n" + V2,
            f"{CG}/cpu.max": "many of them",
        },
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_quota(tmp_path, case):
    files, expected = CASES[case]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert quota(str(tmp_path)) == expected


def test_paths_of_mounts():
    assert unescaped(r"/mnt/My\040disk\134x") == r"/mnt/My disk\x"


CODE = """
import os
os.sched_getaffinity = lambda _: set(range(64))
os.cpu_count = lambda: 64
from sqlite_utils.cli import cli
from datasette_clip_search.common.cores import cores
import numpy, faiss, torch
print(cores(), faiss.omp_get_max_threads(), torch.get_num_threads(), os.environ["OMP_NUM_THREADS"])
"""


def test_a_real_quota():
    """Libraries start as many threads as the kernel grants processors to a real group."""
    pytest.importorskip("torch")
    enter, group = _group(50_000)
    try:
        result = subprocess.run(
            ["sh", "-c", f'echo $$ > {enter} && exec "$@"', "sh", sys.executable, "-c", CODE],
            capture_output=True,
            text=True,
            env={key: value for key, value in os.environ.items() if "NUM_THREADS" not in key},
        )
    finally:
        group.rmdir()
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["1"] * 4


def _group(time: int) -> tuple[Path, Path]:
    """Make a control group of `time` microseconds in 100,000, where that is allowed."""
    name = f"clip-search-test-{os.getpid()}"
    for folder, quotas in [
        (Path("/sys/fs/cgroup/cpu"), {"cpu.cfs_quota_us": str(time)}),
        (Path("/sys/fs/cgroup"), {"cpu.max": f"{time} 100000"}),
    ]:
        group = folder / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for file, text in quotas.items():
                # Only if the file exists: in an ordinary folder it does not.
                with (group / file).open("r+") as opened:
                    opened.write(text)
        except OSError:
            group.rmdir()
            continue
        return group / "cgroup.procs", group
    pytest.skip("No control group can be made here")
