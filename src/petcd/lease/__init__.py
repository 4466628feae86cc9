"""Leases: keys that live only as long as somebody keeps renewing.

Source: contract wire-v3 section 5, disk section 5.3.
"""

from petcd.lease.lessor import FOREVER, TTL_SECONDS_MAX, Lease, Lessor

__all__ = ["Lease", "Lessor", "FOREVER", "TTL_SECONDS_MAX"]
