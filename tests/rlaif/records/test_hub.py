"""A data set on a hub, over HTTP: a stream downloads little, and gives the bytes of its images as they are."""

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import ROOT
from tests.support.photographs import encoded, photo
from tests.support.published.hub_server import COMMIT, HubServer

READ = """
import json, sys
from rlaif.records.data_sets import open_data_set
table = open_data_set("owner/name", **json.loads(sys.argv[1]))
rows = [[row.values["question"], row.values["image"]["bytes"].hex()] for row in table.rows()]
print(json.dumps(rows))
"""
IMAGE = {"_type": "Image"}
FEATURES = {"info": {"features": {"image": IMAGE, "question": {"_type": "Value", "dtype": "string"}}}}


def jpeg(index: int) -> bytes:
    return encoded(photo(300 + index, 200), "JPEG")


def shard(first: int) -> bytes:
    """Twenty rows, whose images have the type that `datasets` decodes."""
    rows = [{"image": {"bytes": jpeg(first + row), "path": None}, "question": f"q{first + row}"} for row in range(20)]
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"huggingface": json.dumps(FEATURES)})
    buffer = BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def read(hub: HubServer, home: Path, **settings: Any) -> list[tuple[str, bytes]]:
    """(question, image) of the rows, read by another process: `datasets` takes its endpoint from the environment."""
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0"}
    settings = {"revision": COMMIT, **settings}
    command = [sys.executable, "-c", READ, json.dumps(settings)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Task was destroyed" not in done.stderr, done.stderr
    return [(question, bytes.fromhex(image)) for question, image in json.loads(done.stdout)]


@pytest.mark.slow
def test_a_stream_of_parquet_downloads_the_shards_of_its_rows(tmp_path: Path) -> None:
    files = {f"data/train-{index:05d}-of-00005.parquet": shard(20 * index) for index in range(5)}
    with HubServer({"README.md": b"---\nlicense: mit\n---\n", **files}) as hub:
        rows = read(hub, tmp_path, streaming=True, split="train[:10]")
        assert rows == [(f"q{index}", jpeg(index)) for index in range(10)]
        assert {name for name in hub.served if name.startswith("data/")} == {min(files)}


@pytest.mark.slow
def test_a_stream_of_image_files_downloads_what_it_reads(tmp_path: Path) -> None:
    table = "file_name,question\n" + "".join(f"{index:02d}.jpg,q{index}\n" for index in range(40))
    files = {f"train/{index:02d}.jpg": jpeg(index) for index in range(40)}
    with HubServer({"README.md": b"", "train/metadata.csv": table.encode(), **files}) as hub:
        rows = read(hub, tmp_path, streaming=True, split="train[:5]")
        assert rows == [(f"q{index}", jpeg(index)) for index in range(5)]
        assert sum(name.endswith(".jpg") for name in hub.served) < 10
