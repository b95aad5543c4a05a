"""Requests of all kinds, made from the OpenAPI document, get the answers that it describes."""

import asyncio
import importlib.util
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed"
    ),
]


async def test_no_request_gets_an_answer_that_is_not_described(shop, tmp_path):
    # From the first sums on there are always some, so that this needs no 503 any more.
    await shop.cohorts()
    await shop.get("/v1/due")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", f"{shop.url}/openapi.json",
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_schema_conformance,unsupported_method",
        # Streams never end.
        "--exclude-path", "/v1/changes",
        "--max-examples", "10", "--seed", "1", "--generation-database", "none", "--no-color",
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(400):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    document, _ = await shop.get("/openapi.json")
    assert f"Tested: {len(document['paths']) - 1}" in said.decode()
