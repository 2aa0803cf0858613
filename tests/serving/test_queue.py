"""Clients take turns, batches hold one program, and no client takes all places."""

import pytest

from dalle3_jax.pipeline.request import Request, make_request
from dalle3_jax.serving.queue import Job, Queue, QueueFull

SMALL, WIDE = Request("a", (16, 16)), Request("a", (16, 32))


def job(client: str, n: int = 1, request: Request = SMALL, **options) -> Job:
    return Job([request] * n, client, **options)


def takers(queue: Queue, most: int) -> list[str]:
    return [image.job.client for image in queue.take(most)]


def test_clients_take_turns_however_much_each_has():
    queue = Queue(100)
    for _ in range(5):
        queue.add(job("many", 2))
    queue.add(job("one"))
    queue.add(job("two", 2))
    assert takers(queue, 4) == ["many", "one", "two", "many"]
    assert takers(queue, 2) == ["two", "many"]
    assert takers(queue, 100) == ["many"] * 7
    assert len(queue) == 0


def test_a_batch_holds_one_program_and_the_other_comes_next():
    queue = Queue(100)
    queue.add(job("a", 1, WIDE))
    queue.add(job("a", 3))
    queue.add(job("b", 2))
    assert queue.count_next() == 1
    assert [image.request.size for image in queue.take(8)] == [(16, 32)]
    assert queue.count_next() == 5
    assert takers(queue, 8) == ["b", "a", "b", "a", "a"]


def test_one_program_of_a_busy_client_does_not_keep_another_client_waiting():
    queue = Queue(100)
    queue.add(job("busy", 50))
    queue.add(job("other", 1, WIDE))
    assert takers(queue, 8) == ["busy"] * 8
    assert takers(queue, 8) == ["other"]


def test_a_batch_of_a_size_that_is_asked_for_holds_no_others():
    queue = Queue(100)
    queue.add(job("a", 3, batch_size=2))
    queue.add(job("b"))
    assert takers(queue, 8) == ["a", "a"]
    assert takers(queue, 8) == ["b"]
    assert takers(queue, 8) == ["a"]


def test_guidance_and_seeds_share_a_batch_and_steps_do_not():
    queue = Queue(100)
    for settings in ({"seed": 3}, {"guidance_scale": 5.0}, {"steps": 3}):
        queue.add(job("a", 1, make_request("a", {"size": (16, 16), **settings})))
    assert len(queue.take(8)) == 2
    assert len(queue.take(8)) == 1


def test_a_client_has_at_most_half_of_the_places():
    queue = Queue(4)
    queue.add(job("a"))
    queue.add(job("a", 9))
    with pytest.raises(QueueFull, match="2 of your requests"):
        queue.add(job("a"))
    queue.add(job("b"))
    queue.add(job("c"))
    with pytest.raises(QueueFull, match="all 4 places"):
        queue.add(job("d"))
    Queue(1).add(job("a"))


def test_what_is_taken_or_removed_frees_its_place():
    queue = Queue(2)
    first = job("a", 2)
    queue.add(first)
    with pytest.raises(QueueFull):
        queue.add(job("a"))
    queue.take(1)
    queue.remove(first)
    assert len(queue) == 0
    queue.add(job("a"))
    assert [len(queue), len(queue.jobs())] == [1, 1]


def test_a_client_that_stops_one_of_its_jobs_keeps_its_turn():
    queue = Queue(100)
    stopped = job("a")
    for one in (stopped, job("a"), job("b")):
        queue.add(one)
    queue.remove(stopped)
    assert takers(queue, 1) == ["a"]
    assert takers(queue, 1) == ["b"]


def test_the_images_before_a_job_count_one_of_each_client_a_round():
    queue = Queue(100)
    jobs = [job("a", 3), job("b", 2), job("a"), job("c")]
    for one in jobs:
        queue.add(one)
    assert [queue.count_before(one) for one in jobs] == [2, 2, 3 + 2 + 1, 2]
    assert queue.count_before(job("a")) == 0
