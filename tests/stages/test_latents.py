"""What training says of its data, and does without being told."""

import pytest

from configs import tiny
from dalle3_jax.data.bad_records import BadRecordCounter
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.stages.latents import count_latents
from dalle3_jax.stages.train import report_bad_records


@pytest.mark.parametrize(("wanted", "count"), [(7, 7), (20, 20), (21, 20), (8000, 20)])
def test_no_more_latents_are_kept_than_there_are_records_and_that_is_said(capsys, wanted, count):
    config = tiny.get_config("base")
    config.data.latents = wanted
    assert count_latents(config, ScenesSource(length=20)) == count
    said = capsys.readouterr().err
    assert said == (
        ""
        if wanted == count
        else f"note: data.latents is {wanted:,}, and there are 20 records: the latents of all of them are kept\n"
    )


class Data:
    """Batches of which some records are bad."""

    def __init__(self, *reasons):
        self.ledger = BadRecordCounter(1.0)
        for index, reason in enumerate(reasons):
            self.ledger.count_bad(index, BadRecord(reason, f"{index}.jpg", "x"))

    def describe_bad(self):
        return self.ledger.describe()


def test_records_that_could_not_be_used_are_named_at_the_end(capsys):
    for data in (Data("shape", "json"), Data()):
        with report_bad_records(data):
            assert capsys.readouterr().err.count("could not") == 0 or data.describe_bad() == ""
    with report_bad_records(Data("shape")):
        capsys.readouterr()
    assert capsys.readouterr().err == "records that could not be used: 1 shape ('0.jpg')\n"
