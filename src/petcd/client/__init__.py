"""The client of etcd's v3 API. See docs/client.md.

``petcd.client.blocking`` is the connection of one-shot programs; importing it costs no asyncio.
"""
