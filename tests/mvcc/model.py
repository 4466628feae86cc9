"""etcd's multi-version store as a list of changes: slow, plain, written without looking at the real one."""

from __future__ import annotations

from dataclasses import dataclass, field

import google_crc32c

from petcd import errors
from petcd.pb import mvccpb
from petcd.pb.etcdserverpb import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    ResponseHeader,
    ResponseOp,
    TxnRequest,
    TxnResponse,
)

State = dict[bytes, mvccpb.KeyValue]


@dataclass
class Record:
    """One change: the KeyValue of a put, or a deletion."""

    main: int
    sub: int
    key: bytes
    kv: mvccpb.KeyValue | None

    def row(self) -> tuple[bytes, bytes]:
        rev = self.main.to_bytes(8, "big") + b"_" + self.sub.to_bytes(8, "big")
        if self.kv is None:
            return rev + b"t", mvccpb.KeyValue(key=self.key).encode()
        return rev, self.kv.encode()


def covers(key: bytes, range_end: bytes, k: bytes) -> bool:
    if not range_end:
        return k == key
    return k >= key and (range_end == b"\0" or k < range_end)


@dataclass
class Model:
    rev: int = 1
    compact_rev: int = -1
    records: list[Record] = field(default_factory=list)
    open: list[Record] = field(default_factory=list)
    """Changes of the transaction under way."""

    def state(self, rev: int | None = None) -> State:
        found: State = {}
        for record in [*self.records, *self.open]:
            if rev is not None and record.main > rev:
                break
            if record.kv is None:
                found.pop(record.key, None)
            else:
                found[record.key] = record.kv
        return dict(sorted(found.items()))

    def end(self) -> None:
        if self.open:
            self.rev += 1
            self.records += self.open
            self.open = []

    @property
    def now(self) -> int:
        return self.rev + 1 if self.open else self.rev

    def put(self, request: PutRequest) -> PutResponse:
        old = self.state().get(request.key)
        if request.lease < 0:
            raise errors.LeaseNotFound
        if (request.ignore_value or request.ignore_lease) and old is None:
            raise errors.KeyNotFound
        return self.do_put(request)

    def do_put(self, request: PutRequest) -> PutResponse:
        old = self.state().get(request.key)
        main = self.rev + 1
        kv = mvccpb.KeyValue(
            key=request.key,
            create_revision=old.create_revision if old else main,
            mod_revision=main,
            version=old.version + 1 if old else 1,
            value=old.value if old and request.ignore_value else request.value,
            lease=old.lease if old and request.ignore_lease else request.lease,
        )
        self.open.append(Record(main, len(self.open), request.key, kv))
        return PutResponse(prev_kv=old if request.prev_kv else None)

    def delete_range(self, request: DeleteRangeRequest) -> DeleteRangeResponse:
        gone = [kv for k, kv in self.state().items() if covers(request.key, request.range_end, k)]
        for kv in gone:
            self.open.append(Record(self.rev + 1, len(self.open), kv.key, None))
        return DeleteRangeResponse(deleted=len(gone), prev_kvs=gone if request.prev_kv else [])

    def range(self, request: RangeRequest) -> RangeResponse:
        rev = request.revision
        if rev > self.now:
            raise errors.FutureRev
        if 0 < rev < self.compact_rev:
            raise errors.Compacted
        state = self.state(rev if rev > 0 else None)
        kvs = [kv for k, kv in state.items() if covers(request.key, request.range_end, k)]
        count = len(kvs)
        if request.count_only:
            return RangeResponse(count=count)
        filtered = (
            request.min_mod_revision
            or request.max_mod_revision
            or request.min_create_revision
            or request.max_create_revision
        )
        if request.limit > 0 and request.sort_order == 0 and not filtered:
            kvs = kvs[: request.limit + 1]
        if request.min_mod_revision:
            kvs = [kv for kv in kvs if kv.mod_revision >= request.min_mod_revision]
        if request.max_mod_revision:
            kvs = [kv for kv in kvs if kv.mod_revision <= request.max_mod_revision]
        if request.min_create_revision:
            kvs = [kv for kv in kvs if kv.create_revision >= request.min_create_revision]
        if request.max_create_revision:
            kvs = [kv for kv in kvs if kv.create_revision <= request.max_create_revision]
        name = ("key", "version", "create_revision", "mod_revision", "value")[request.sort_target]
        if request.sort_order or request.sort_target:
            kvs = sorted(kvs, key=lambda kv: getattr(kv, name), reverse=request.sort_order == 2)
        more = 0 < request.limit < len(kvs)
        if more:
            kvs = kvs[: request.limit]
        if request.keys_only:
            kvs = [
                mvccpb.KeyValue(
                    key=kv.key,
                    create_revision=kv.create_revision,
                    mod_revision=kv.mod_revision,
                    version=kv.version,
                    lease=kv.lease if name == "value" else 0,
                )
                for kv in kvs
            ]
        return RangeResponse(kvs=kvs, more=more, count=count)

    def compare(self, compare: Compare) -> bool:
        kvs = [kv for k, kv in self.state().items() if covers(compare.key, compare.range_end, k)]
        if not kvs:
            if compare.target == 3:
                return False
            kvs = [mvccpb.KeyValue()]
        name = ("version", "create_revision", "mod_revision", "value", "lease")[compare.target]
        operand = getattr(compare, name) or (b"" if name == "value" else 0)

        def one(actual: object) -> bool:
            if compare.result == 0:
                return actual == operand
            if compare.result == 1:
                return actual > operand  # type: ignore[operator]
            if compare.result == 2:
                return actual < operand  # type: ignore[operator]
            return actual != operand

        return all(one(getattr(kv, name)) for kv in kvs)

    def txn(self, request: TxnRequest) -> TxnResponse:
        choices: dict[int, bool] = {}

        def choose(txn: TxnRequest) -> list[RequestOp]:
            choices[id(txn)] = all(self.compare(c) for c in txn.compare)
            return txn.success if choices[id(txn)] else txn.failure

        def check(txn: TxnRequest) -> None:
            for op in choose(txn):
                if op.request_txn is not None:
                    choose_all(op.request_txn)

        choose_all = check
        check(request)

        def validate(txn: TxnRequest) -> None:
            for op in txn.success if choices[id(txn)] else txn.failure:
                if op.request_put is not None:
                    p = op.request_put
                    if (p.ignore_value or p.ignore_lease) and p.key not in self.state():
                        raise errors.KeyNotFound
                    if p.lease < 0:
                        raise errors.LeaseNotFound
                elif op.request_range is not None and op.request_range.revision != 0:
                    if op.request_range.revision > self.rev:
                        raise errors.FutureRev
                    if op.request_range.revision < self.compact_rev:
                        raise errors.Compacted
                elif op.request_txn is not None:
                    validate(op.request_txn)

        def run(txn: TxnRequest) -> TxnResponse:
            responses = []
            for op in txn.success if choices[id(txn)] else txn.failure:
                if op.request_put is not None:
                    put = self.do_put(op.request_put)
                    put.header = ResponseHeader(revision=self.now)
                    responses.append(ResponseOp(response_put=put))
                elif op.request_range is not None:
                    got = self.range(op.request_range)
                    got.header = ResponseHeader(revision=self.now)
                    responses.append(ResponseOp(response_range=got))
                elif op.request_delete_range is not None:
                    deleted = self.delete_range(op.request_delete_range)
                    deleted.header = ResponseHeader(revision=self.now)
                    responses.append(ResponseOp(response_delete_range=deleted))
                else:
                    assert op.request_txn is not None
                    nested = run(op.request_txn)
                    nested.header = ResponseHeader()
                    responses.append(ResponseOp(response_txn=nested))
            return TxnResponse(succeeded=choices[id(txn)], responses=responses)

        validate(request)
        return run(request)

    def compact(self, rev: int) -> None:
        if rev <= self.compact_rev:
            raise errors.Compacted
        if rev > self.rev:
            raise errors.FutureRev
        self.compact_rev = rev

    def hash_kv(self, rev: int) -> int:
        """Contract 8.4 to the letter, over what is left when pruning is over."""
        newest: dict[bytes, Record] = {}
        for record in self.records:
            if record.main <= rev:
                newest[record.key] = record
        keep = {(r.main, r.sub) for r in newest.values() if r.kv is not None}
        crc = google_crc32c.value(b"key")
        kept = self.kept(self.compact_rev)
        for record in self.records:
            if record.main > rev or record.row()[0] not in kept:
                continue
            if record.main <= self.compact_rev and keep and (record.main, record.sub) not in keep:
                continue
            if record.main == self.compact_rev and record.kv is None:
                continue
            for part in record.row():
                crc = google_crc32c.extend(crc, part)
        return int(crc)

    def kept(self, rev: int) -> set[bytes]:
        """The revision keys left in the backend when everything up to compact revision ``rev`` was pruned."""
        newest: dict[bytes, Record] = {}
        left: list[Record] = []
        for record in self.records:
            if record.main > rev:
                left.append(record)
            else:
                newest[record.key] = record
        left += [r for r in newest.values() if r.kv is not None or r.main == rev]
        return {record.row()[0] for record in left}
