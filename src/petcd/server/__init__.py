"""One member: the drive loop, apply, membership, bootstrap, reads, alarms, quota, compactor.

``member.py`` holds the one loop; read it first.
"""
