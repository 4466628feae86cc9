"""The ``.proto`` files, the declarations and other people's schema say the same."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from tests.pb.oracle import descriptors

from petcd.pb import proto
from petcd.pb.message import ENUM_NAMES, REGISTRY
from petcd.pb.services import METHODS, SERVICES


def test_the_command_writes_every_file(tmp_path: Path) -> None:
    assert proto.main([str(tmp_path)]) == 0
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.proto")}
    assert written == proto.files()
    assert "message PutRequest {\n  bytes key = 1;" in written["etcdserverpb/rpc.proto"]
    assert "optional bool reject = 10;" in written["raftpb/raft.proto"]
    assert "rpc Watch(stream .etcdserverpb.WatchRequest) returns (stream" in written["etcdserverpb/rpc.proto"]


def test_the_command_wants_one_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert proto.main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_protoc_reads_the_files_as_the_declarations(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc", reason="protobuf's compiler comes with grpcio-tools")
    proto.main([str(tmp_path)])
    out = tmp_path / "all.pb"
    assert protoc.main(["protoc", f"-I{tmp_path}", f"-o{out}", *proto.files()]) == 0
    compiled = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    ours = descriptors()
    assert {file.name for file in compiled.file} == set(ours)
    for file in compiled.file:
        assert {s.name for s in file.service} == {
            name.rpartition(".")[2] for name in SERVICES if name.rpartition(".")[0] == file.package
        } or not file.service
        file.ClearField("service")
        for kind in ("message_type", "enum_type"):
            wanted = {item.name: item for item in getattr(ours[file.name], kind)}
            got = {item.name: _plain(item) for item in getattr(file, kind)}
            assert got == {name: _plain(item) for name, item in wanted.items()}


def _plain(item: Any) -> Any:
    """A descriptor without the JSON names protoc adds."""
    for field in getattr(item, "field", ()):
        field.ClearField("json_name")
    for nested in getattr(item, "nested_type", ()):
        _plain(nested)
    return item


_SCALARS = {3: "int64", 4: "uint64", 5: "int32", 8: "bool", 9: "string", 12: "bytes", 13: "uint32"}


@pytest.mark.parametrize("module", ["rpc_pb2", "kv_pb2", "auth_pb2"])
def test_a_published_client_declares_the_same_fields(module: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its generated code is older than the installed protobuf
        pytest.importorskip("aetcd", reason="the client whose schema is compared is not installed")
        descriptor = importlib.import_module(f"aetcd.rpc.{module}").DESCRIPTOR
    enums = list(descriptor.enum_types_by_name.values())
    assert descriptor.message_types_by_name
    for theirs in descriptor.message_types_by_name.values():
        ours = {field.number: field for field in REGISTRY[theirs.full_name].FIELDS}
        enums += theirs.enum_types
        for field in theirs.fields:
            mine = ours[field.number]
            assert mine.name == field.name
            assert mine.repeated == field.is_repeated
            assert mine.oneof == (field.containing_oneof.name if field.containing_oneof else None)
            if field.message_type is not None:
                assert field.message_type.full_name == mine.message_type.FULL_NAME
            elif field.enum_type is not None:
                assert ENUM_NAMES[mine.enum_type] == field.enum_type.full_name
            else:
                assert mine.kind == _SCALARS[field.type]
    by_name = {name: enum for enum, name in ENUM_NAMES.items()}
    for enum in enums:
        members = by_name[enum.full_name].__members__
        assert {value.name: value.number for value in enum.values}.items() <= members.items()


def test_each_method_is_named_once() -> None:
    assert len({method.path for method in METHODS}) == len(METHODS)
    paths = [path for method in METHODS for path in method.gateway]
    assert len(set(paths)) == len(paths)
    assert sum(map(len, SERVICES.values())) == len(METHODS)
