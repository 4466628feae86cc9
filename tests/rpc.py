"""A plain gRPC client on grpcio, with petcd's messages: the shape of what any etcd client sends.

It shares no code with petcd's own transport, so it is an outside view of it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import grpc

from petcd.pb import etcdserverpb as pb
from petcd.pb import v3electionpb, v3lockpb
from petcd.pb.message import Message

M = TypeVar("M", bound=Message)

METHODS: dict[type[Message], tuple[str, type[Message]]] = {
    pb.RangeRequest: ("/etcdserverpb.KV/Range", pb.RangeResponse),
    pb.PutRequest: ("/etcdserverpb.KV/Put", pb.PutResponse),
    pb.DeleteRangeRequest: ("/etcdserverpb.KV/DeleteRange", pb.DeleteRangeResponse),
    pb.TxnRequest: ("/etcdserverpb.KV/Txn", pb.TxnResponse),
    pb.CompactionRequest: ("/etcdserverpb.KV/Compact", pb.CompactionResponse),
    pb.LeaseGrantRequest: ("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse),
    pb.LeaseRevokeRequest: ("/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse),
    pb.LeaseTimeToLiveRequest: ("/etcdserverpb.Lease/LeaseTimeToLive", pb.LeaseTimeToLiveResponse),
    pb.LeaseLeasesRequest: ("/etcdserverpb.Lease/LeaseLeases", pb.LeaseLeasesResponse),
    pb.HashKVRequest: ("/etcdserverpb.Maintenance/HashKV", pb.HashKVResponse),
    pb.HashRequest: ("/etcdserverpb.Maintenance/Hash", pb.HashResponse),
    pb.StatusRequest: ("/etcdserverpb.Maintenance/Status", pb.StatusResponse),
    pb.MemberAddRequest: ("/etcdserverpb.Cluster/MemberAdd", pb.MemberAddResponse),
    pb.MemberRemoveRequest: ("/etcdserverpb.Cluster/MemberRemove", pb.MemberRemoveResponse),
    pb.MemberUpdateRequest: ("/etcdserverpb.Cluster/MemberUpdate", pb.MemberUpdateResponse),
    pb.MemberPromoteRequest: ("/etcdserverpb.Cluster/MemberPromote", pb.MemberPromoteResponse),
    pb.AlarmRequest: ("/etcdserverpb.Maintenance/Alarm", pb.AlarmResponse),
    pb.DefragmentRequest: ("/etcdserverpb.Maintenance/Defragment", pb.DefragmentResponse),
    pb.MemberListRequest: ("/etcdserverpb.Cluster/MemberList", pb.MemberListResponse),
    v3lockpb.LockRequest: ("/v3lockpb.Lock/Lock", v3lockpb.LockResponse),
    v3lockpb.UnlockRequest: ("/v3lockpb.Lock/Unlock", v3lockpb.UnlockResponse),
    v3electionpb.CampaignRequest: ("/v3electionpb.Election/Campaign", v3electionpb.CampaignResponse),
    v3electionpb.LeaderRequest: ("/v3electionpb.Election/Leader", v3electionpb.LeaderResponse),
    v3electionpb.ResignRequest: ("/v3electionpb.Election/Resign", v3electionpb.ResignResponse),
}

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
]


class Status(Exception):
    """A call that ended with another status than OK."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Status) and (self.code, self.text) == (other.code, other.text)

    def __hash__(self) -> int:
        return hash((self.code, self.text))


def status_of(error: grpc.RpcError) -> Status:
    call: Any = error
    return Status(call.code().value[0], call.details())


class Rpc:
    """One channel to one endpoint."""

    def __init__(self, endpoint: str, *, seconds_max: float = 30.0) -> None:
        self.channel = grpc.insecure_channel(endpoint, OPTIONS)
        self._seconds_max = seconds_max
        self._calls: dict[type[Message], Callable[..., Any]] = {}

    def __enter__(self) -> Rpc:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.channel.close()

    def call(
        self, request: Message, *, metadata: tuple[tuple[str, str], ...] = (), seconds: float = 0.0
    ) -> Any:
        """One unary call; the method follows from the request's type. Raises: Status."""
        kind = type(request)
        method = self._calls.get(kind)
        if method is None:
            path, answer = METHODS[kind]
            method = self._calls[kind] = self.channel.unary_unary(
                path,
                request_serializer=lambda message: message.encode(),
                response_deserializer=lambda data: answer.decode(data),
            )
        try:
            return method(request, timeout=seconds or self._seconds_max, metadata=metadata)
        except grpc.RpcError as error:
            raise status_of(error) from None

    def future(self, request: Message, *, seconds: float = 0.0) -> Any:
        """The same, without waiting."""
        path, answer = METHODS[type(request)]
        return self.channel.unary_unary(
            path,
            request_serializer=lambda message: message.encode(),
            response_deserializer=lambda data: answer.decode(data),
        ).future(request, timeout=seconds or self._seconds_max)

    def stream(self, path: str, answer: type[M]) -> Stream[M]:
        return Stream(self.channel, path, answer)

    def watch(self) -> Stream[pb.WatchResponse]:
        return self.stream("/etcdserverpb.Watch/Watch", pb.WatchResponse)

    def keep_alive(self) -> Stream[pb.LeaseKeepAliveResponse]:
        return self.stream("/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse)

    # Shorthands for tests.

    def put(self, key: bytes, value: bytes = b"", lease: int = 0) -> int:
        """The revision of the put."""
        response = self.call(pb.PutRequest(key=key, value=value, lease=lease))
        revision: int = response.header.revision
        return revision

    def get(self, key: bytes, range_end: bytes = b"", **options: Any) -> pb.RangeResponse:
        response: pb.RangeResponse = self.call(pb.RangeRequest(key=key, range_end=range_end, **options))
        return response

    def value(self, key: bytes) -> bytes | None:
        kvs = self.get(key).kvs
        return kvs[0].value if kvs else None


class Stream(Generic[M]):
    """A bidirectional stream: requests go out as they are sent, answers wait in a queue."""

    def __init__(self, channel: grpc.Channel, path: str, answer: type[M]) -> None:
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[M | Status] = queue.SimpleQueue()
        self._call = channel.stream_stream(
            path,
            request_serializer=lambda message: message.encode(),
            response_deserializer=lambda data: answer.decode(data),
        )(self._outgoing())
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _outgoing(self) -> Iterator[Message]:
        while (request := self._requests.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for message in self._call:
                self.answers.put(message)
        except grpc.RpcError as error:
            self.answers.put(status_of(error))
        else:
            self.answers.put(Status(0, ""))

    def send(self, request: Message) -> None:
        self._requests.put(request)

    def half_close(self) -> None:
        self._requests.put(None)

    def receive(self, seconds: float = 10.0) -> M:
        """The next message. Raises: Status when the stream has ended, TimeoutError."""
        try:
            answer = self.answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"nothing within {seconds} s") from None
        if isinstance(answer, Status):
            raise answer
        return answer

    def ask(self, request: Message, seconds: float = 10.0) -> M:
        self.send(request)
        return self.receive(seconds)

    def cancel(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._reader.join(10)
