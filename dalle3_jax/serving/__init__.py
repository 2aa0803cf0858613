"""Prompts to images over HTTP: OpenAI's Images API and a part of stable-diffusion-webui's, on one engine.

`app.build_app` makes the application of an `engine.Engine`, which owns the one thread that computes. All that waits is
in `queue.Queue`; everything but the computing happens on the event loop, so that nothing needs a lock.
"""
