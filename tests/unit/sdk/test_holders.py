"""When a call names its graph by the id, and when it brings it along."""

from __future__ import annotations

import pytest

from gradwire._calls.holders import LARGE_GRAPH, PATIENCE, TRUSTED, Holders


def runs(holders: Holders, times: int) -> list[int]:
    """How many calls bring the graph after each time that a server lacks it."""
    lengths = []
    for _ in range(times):
        asked = holders.by_id()
        assert asked is not None
        holders.missed(asked)
        lengths.append(0)
        while holders.by_id() is None:
            lengths[-1] += 1
        holders.answered(asked + 1, found=False)
    return lengths


def test_runs_double_with_each_server_that_lacks_the_graph_up_to_a_bound() -> None:
    holders = Holders(100)
    assert runs(holders, 13) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]


def test_they_begin_anew_once_many_calls_by_id_were_answered() -> None:
    holders = Holders(100)
    assert runs(holders, 4) == [1, 2, 4, 8]
    for _ in range(TRUSTED):
        asked = holders.by_id()
        assert asked is not None
        holders.answered(asked, found=True)
    assert runs(holders, 2) == [1, 2]


def test_servers_that_lack_it_at_the_same_time_count_once() -> None:
    holders = Holders(LARGE_GRAPH + 1)
    together = [holders.by_id() for _ in range(8)]
    assert together == [0] * 8
    for _ in together:
        holders.missed(0)
    assert [holders.by_id() for _ in range(2)] == [None, 1]


def test_of_calls_that_overlap_one_goes_by_id_and_two_for_each_that_is_answered() -> None:
    holders = Holders(100)
    assert [holders.by_id() for _ in range(3)] == [0, None, None]
    holders.answered(0, found=True)
    assert [holders.by_id() for _ in range(3)] == [0, 0, None]


@pytest.mark.parametrize("graph_bytes", [100, LARGE_GRAPH + 1])
def test_calls_by_id_that_were_given_up_do_not_end_them_for_ever(graph_bytes: int) -> None:
    holders = Holders(graph_bytes)
    while holders.by_id() is not None:
        pass
    asked = [holders.by_id() for _ in range(2 * PATIENCE)]
    assert [place for place, each in enumerate(asked) if each is not None] == [PATIENCE - 1]
