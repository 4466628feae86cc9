"""Same history, same answers: petcd beside Go etcd, and the harness beside itself."""

from __future__ import annotations

import pytest
from tests.differential.compare import canonical
from tests.differential.history import Generator
from tests.differential.run import Differential
from tests.servers import needs_go_etcd, serving

from petcd.pb import etcdserverpb as pb
from petcd.pb import mvccpb


@pytest.mark.go
@pytest.mark.slow
@needs_go_etcd
@pytest.mark.parametrize("seed", [1, 2])
def test_petcd_answers_as_go_does(seed: int) -> None:
    with serving("go") as reference, serving("petcd") as subject:
        report = Differential(reference.endpoint, subject.endpoint, seed).run(800)
    assert not report.differences, report.describe()
    assert report.errors > 20
    assert report.events > 200


def test_a_seed_is_a_history() -> None:
    def history(seed: int) -> list[str]:
        generator = Generator(seed)
        return [repr(generator.next()) for _ in range(300)]

    assert history(5) == history(5)
    assert history(5) != history(6)


def test_ties_of_a_sort_have_no_order_and_a_cut_run_only_a_length() -> None:
    a, b, c = (
        mvccpb.KeyValue(key=key, version=version) for key, version in ((b"a", 1), (b"b", 1), (b"c", 2))
    )
    request = pb.RangeRequest(key=b"a", range_end=b"d", sort_target=1, sort_order=1)
    assert canonical(request, pb.RangeResponse(kvs=[a, b, c])) == canonical(
        request, pb.RangeResponse(kvs=[b, a, c])
    )
    assert canonical(request, pb.RangeResponse(kvs=[a, b, c])) != canonical(
        request, pb.RangeResponse(kvs=[c, a, b])
    )
    request.limit = 1
    assert canonical(request, pb.RangeResponse(kvs=[a])) == canonical(request, pb.RangeResponse(kvs=[b]))


def test_a_header_counts_by_its_revision() -> None:
    request = pb.PutRequest(key=b"a")
    one, other = (pb.PutResponse(header=pb.ResponseHeader(member_id=n, revision=7)) for n in (1, 2))
    assert canonical(request, one) == canonical(request, other)
    other.header = pb.ResponseHeader(member_id=1, revision=8)
    assert canonical(request, one) != canonical(request, other)
    assert canonical(request, pb.PutResponse()) != canonical(request, one)
