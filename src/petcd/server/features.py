"""The feature gates of etcd 3.7.1 and the text that sets them (contract/config-metrics.md section 5)."""

from __future__ import annotations

from typing import Final

from petcd.server import gotext

FEATURES: Final[dict[str, tuple[str, bool]]] = {
    "StopGRPCServiceOnDefrag": ("ALPHA", False),
    "InitialCorruptCheck": ("ALPHA", False),
    "CompactHashCheck": ("ALPHA", False),
    "TxnModeWriteWithSharedBuffer": ("BETA", True),
    "LeaseCheckpoint": ("ALPHA", False),
    "LeaseCheckpointPersist": ("ALPHA", False),
    "SetMemberLocalAddr": ("ALPHA", False),
    "FastLeaseKeepAlive": ("BETA", True),
    "PriorityRequest": ("ALPHA", False),
}
"""Stage and default by gate."""

GROUPS: Final = ("AllAlpha", "AllBeta")


class FeatureError(ValueError):
    """A text of gates that cannot be used."""


def parse_features(text: str) -> dict[str, bool]:
    """``A=true,B=false``; group names are kept as they are. Raises FeatureError."""
    gates: dict[str, bool] = {}
    for part in text.split(","):
        if not part:
            continue
        name, equals, value = part.partition("=")
        name, value = name.strip(), value.strip()
        if not equals:
            raise FeatureError(f"missing bool value for {name}")
        try:
            gates[name] = gotext.parse_bool(value)
        except gotext.SyntaxFault:
            reason = f"strconv.ParseBool: parsing {gotext.quote(value)}: invalid syntax"
            raise FeatureError(f"invalid value of {name}={value}, err: {reason}") from None
    for name in gates:
        if name not in FEATURES and name not in GROUPS:
            raise FeatureError(f"unrecognized feature gate: {name}")
    return gates


def format_features(gates: dict[str, bool]) -> str:
    return ",".join(f"{name}={'true' if on else 'false'}" for name, on in sorted(gates.items()))
