"""`clv serve` as a person runs it."""

import socket

import aiohttp

from streams.cli.demo_pages import pages_beside
from streams.settings import Serve
from tests.test_streams.commands import clv
from tests.test_streams.service.cluster import cluster

SERVERS = {"CLV_BROKER": "127.0.0.1:1", "CLV_REDIS": "redis://127.0.0.1:1/0"}


def test_without_tokens_it_listens_to_this_machine_only():
    done = clv("serve", "--host", "0.0.0.0", **SERVERS)
    assert done.returncode == 1
    assert "everybody who reaches 0.0.0.0 could read all customers" in done.stderr
    short = clv("serve", **SERVERS, CLV_SERVE__READ_TOKENS='["short-secret"]')
    assert short.returncode == 1
    assert "CLV_SERVE__READ_TOKENS" in short.stderr
    assert "short-secret" not in short.stderr


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = clv("serve", "--port", port, **SERVERS)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"127.0.0.1:{port} cannot be served" in done.stderr
    assert "Traceback" not in done.stderr


async def test_the_demo_has_pages_beside_it_on_another_port_if_the_usual_one_is_taken(tmp_path):
    async with cluster(tmp_path) as service:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            settings = service.settings.model_copy(update={"serve": Serve(port=port)})
            async with (
                pages_beside(settings, wanted=True) as pages,
                aiohttp.ClientSession() as client,
            ):
                await pages.served()
                url = pages.address
                assert not url.endswith(f":{port}")
                async with client.get(url) as response:
                    assert "No customers yet" in await response.text()
        async with pages_beside(settings, wanted=False) as pages:
            await pages.served()
            assert pages.address == ""
