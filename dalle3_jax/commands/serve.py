"""`dalle3-jax serve`: prompts to images over HTTP, with OpenAI's Images API and a part of stable-diffusion-webui's."""

import argparse
import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dalle3_jax.commands.cli import (
    CommandParser,
    add_checkpoint_flags,
    bad_input,
    failures,
    number_errors,
    pipeline_from_flags,
    print_command_errors,
)
from dalle3_jax.pipeline.setting_values import parse_size

if TYPE_CHECKING:
    from dalle3_jax.pipeline import Pipeline
    from dalle3_jax.pipeline.editing import Describe
    from dalle3_jax.pipeline.request import Request

EXAMPLES = """examples:
  dalle3-jax serve
  dalle3-jax serve --checkpoint runs/demo --batch-size 4 --port 9000
  dalle3-jax serve --host 0.0.0.0 --api-key-file keys.txt --warm-up 128x128 --warm-up 176x96

  curl http://127.0.0.1:8000/v1/images/generations -d '{"prompt": "a panda on a beach"}'

docs/server.md describes the routes, how to use it with the openai client, and how to run it as a service."""


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser(
        "dalle3-jax serve",
        "Serve OpenAI's Images API, and a part of stable-diffusion-webui's, from one model.",
        EXAMPLES,
    )
    model = parser.add_argument_group("what is served")
    add_checkpoint_flags(model)
    remark = "refuse other names of models than those that GET /v1/models lists"
    model.add_argument("--strict-models", action="store_true", help=remark)
    remark = "a captioner that describes images without a prompt, to vary them and edit them in words"
    model.add_argument(
        "--captioner", metavar="PATH", help=f"{remark} (default: for models of scenes the shipped reader)"
    )
    work = parser.add_argument_group("how it works")
    work.add_argument("--batch-size", type=int, default=8, metavar="N", help="most images at once (default 8)")
    remark = "places for requests that wait, of which one client gets half (default %(default)s)"
    work.add_argument("--queue", type=int, default=64, metavar="N", help=remark)
    work.add_argument("--max-steps", type=int, default=200, metavar="N", help="of an image (default %(default)s)")
    remark = "compile this size before /readyz says yes; may be given several times (default: the release's first)"
    work.add_argument("--warm-up", action="append", metavar="WIDTHxHEIGHT", help=remark)
    work.add_argument("--no-warm-up", action="store_true", help="compile each program when it is first needed")
    remark = "of jobs and their files, from the end of the job (default %(default)s)"
    work.add_argument("--keep", type=float, default=60, metavar="MINUTES", help=remark)
    door = parser.add_argument_group("who may use it")
    door.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on (default %(default)s)")
    door.add_argument("--port", type=int, default=8000, metavar="N", help="(default %(default)s)")
    remark = "ask for this key; may be given several times, and stands in the list of processes: prefer a file"
    door.add_argument("--api-key", action="append", metavar="KEY", help=remark)
    door.add_argument("--api-key-file", metavar="FILE", help="ask for one of the keys of this file, one a line")
    remark = "let pages of this origin in, as https://example.org; * is all; may be given several times"
    door.add_argument("--cors", action="append", metavar="ORIGIN", help=remark)
    remark = "what the URLs of images begin with, behind a proxy (default: as the client calls the server)"
    door.add_argument("--public-url", default="", metavar="URL", help=remark)
    remark = "withhold images that this detector finds unfit; its model is in the extra safety, nothing is fetched"
    door.add_argument("--safety", choices=("nudenet",), help=remark)
    remark = "sign images as Content Credentials (C2PA) with this chain of certificates, PEM; needs --c2pa-key"
    door.add_argument("--c2pa-certificates", metavar="FILE", help=remark)
    door.add_argument("--c2pa-key", metavar="FILE", help="the private key of the first certificate, PEM")
    door.add_argument("--log-prompts", action="store_true", help="write prompts into the log")
    return parser


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Serve until a signal comes; bad input gives one line and status 2 before the port is taken."""
    arguments = build_parser().parse_args(argv)
    with bad_input(ValueError, OSError):
        from dalle3_jax.serving.limits import read_keys

        check_arguments(arguments)
        keys = read_keys(arguments.api_key or (), arguments.api_key_file)
        guards = load_guards(arguments)
    with bad_input():
        from dalle3_jax.captioning.describer import image_describer

        pipeline = pipeline_from_flags(arguments, all_devices=True)
        requests = warm_up_requests(pipeline, arguments)
        describe = image_describer(pipeline.release.training, arguments.captioner)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with failures(OSError, remark="give another --host or --port"):
        return serve(pipeline, arguments, keys, requests, guards, describe)


def serve(
    pipeline: "Pipeline",
    arguments: argparse.Namespace,
    keys: Sequence[bytes],
    warm_up: Sequence["Request"],
    guards: dict[str, Any],
    describe: "Describe | None" = None,
) -> int:
    """Serve the pipeline until a signal comes; `guards` are those of the engine, `describe` is the service's."""
    from dalle3_jax.pipeline.auto_size import find_size_head
    from dalle3_jax.serving.app import build_app
    from dalle3_jax.serving.engine import Engine
    from dalle3_jax.serving.limits import own_hosts
    from dalle3_jax.serving.server import open_socket, run_server
    from dalle3_jax.serving.service import Limits, Service

    service = Service(
        Engine(pipeline, batch_size=arguments.batch_size, places=arguments.queue, **guards),
        name=arguments.checkpoint,
        limits=Limits(steps=arguments.max_steps, keep_seconds=60 * arguments.keep),
        strict_models=arguments.strict_models,
        public_url=arguments.public_url,
        size_head=find_size_head(None, pipeline)[1],
        logs_prompts=arguments.log_prompts,
        describer=describe,
    )
    hosts = own_hosts(arguments.host, arguments.public_url) if not keys else None
    build = functools.partial(build_app, service, keys=keys, origins=arguments.cors or (), hosts=hosts, warm_up=warm_up)
    with open_socket(arguments.host, arguments.port) as listener:
        host, port = listener.getsockname()[:2]
        print(f"serving {service.model_names[0]} on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        if error := run_server(lambda fail: build(on_failure=fail), service, listener):
            raise error
    return 0


def load_guards(arguments: argparse.Namespace) -> dict[str, Any]:
    """The engine's check of images and its signer, where asked for; ValueError for certificates that cannot sign."""
    guards: dict[str, Any] = {}
    if arguments.safety:
        from dalle3_jax.serving.safety import load_check

        guards["check"] = load_check(arguments.safety)
    if arguments.c2pa_certificates:
        from dalle3_jax.serving.credentials import load_signer

        guards["sign"] = load_signer(arguments.c2pa_certificates, arguments.c2pa_key)
    return guards


def check_arguments(arguments: argparse.Namespace) -> None:
    """ValueError naming everything that cannot be."""
    errors = number_errors(arguments, {"batch_size": 1, "queue": 1, "max_steps": 1})
    if not 0 <= arguments.port < 65536:
        errors.append(f"--port {arguments.port} must be from 0 (any free one) to 65535")
    if not arguments.keep > 0:
        errors.append(f"--keep {arguments.keep} must be above 0")
    if arguments.public_url and urlsplit(arguments.public_url).scheme not in ("http", "https"):
        errors.append(f"--public-url {arguments.public_url!r} must begin with http:// or https://")
    if (arguments.c2pa_certificates is None) != (arguments.c2pa_key is None):
        errors.append("--c2pa-certificates and --c2pa-key go together: give both")
    if errors:
        raise ValueError("; ".join(errors))


def warm_up_requests(pipeline: "Pipeline", arguments: argparse.Namespace) -> list["Request"]:
    """One request a size that is compiled before the server is ready; none of a model that needs a mask.

    Raises ValueError for a model that reads images alone, which no call of the API could use.
    """
    if not pipeline.capabilities.reads_text:
        raise ValueError("this model reads images alone, and is not served: dalle3-jax sample --image-prompt draws it")
    if arguments.no_warm_up or pipeline.capabilities.needs_mask:
        return []
    sizes = [parse_size(text) for text in arguments.warm_up or ()] or [pipeline.defaults["size"]]
    return [pipeline.request("", size=size) for size in sizes]
