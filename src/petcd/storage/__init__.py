"""What a member keeps on disk: write-ahead log, snapshot files, backend.

``wal`` the log; ``snapshots`` raft's snapshot files; ``schema`` the buckets; ``backend`` the write buffer and
the interface; ``lmdb_backend`` the real one, ``memory_backend`` its twin for the simulation; ``datadir`` the
directories and their lock; ``errors`` what can be wrong with any of these.
"""
