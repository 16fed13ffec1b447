"""What Python programs that use aetcd (gRPC, asyncio) do with the server at $ENDPOINT (host:port), which holds no keys."""

import asyncio
import io
import os
import unittest

import aetcd

HOST, PORT = os.environ["ENDPOINT"].split(":")


class Aetcd(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.client = aetcd.Client(host=HOST, port=int(PORT), timeout=20)
        await self.client.connect()
        self.addAsyncCleanup(self.client.close)
        await self.client.delete_range(b"\0", b"\0")

    async def test_keys(self):
        self.assertIsNone(await self.client.get(b"k"))
        await self.client.put(b"k", b"1")
        put = await self.client.put(b"k", b"2", prev_kv=True)
        self.assertEqual(put.prev_kv.value, b"1")
        got = await self.client.get(b"k")
        self.assertEqual((got.value, got.version), (b"2", 2))
        self.assertTrue(await self.client.replace(b"k", b"2", b"3"))
        self.assertFalse(await self.client.replace(b"k", b"2", b"4"))
        deleted = await self.client.delete(b"k", prev_kv=True)
        self.assertEqual(deleted.prev_kv.value, b"3")
        self.assertIsNone(await self.client.delete(b"k"))

    async def test_ranges(self):
        for number in range(5):
            await self.client.put(b"p/%d" % number, b"%d" % (9 - number))
        found = await self.client.get_prefix(b"p/", sort_order="descend", sort_target="key")
        self.assertEqual([kv.key for kv in found], [b"p/4", b"p/3", b"p/2", b"p/1", b"p/0"])
        found = await self.client.get_prefix(b"p/", sort_order="ascend", sort_target="value")
        self.assertEqual([kv.value for kv in found], [b"5", b"6", b"7", b"8", b"9"])
        found = await self.client.get_range(b"p/1", b"p/3")
        self.assertEqual([(kv.key, kv.value) for kv in found], [(b"p/1", b"8"), (b"p/2", b"7")])
        deleted = await self.client.delete_range(b"p/1", b"p/3")
        self.assertEqual(deleted.deleted, 2)
        self.assertEqual(len(list(await self.client.get_all())), 3)

    async def test_transactions(self):
        t = self.client.transactions
        await self.client.put(b"a", b"1")
        taken, answers = await self.client.transaction(
            compare=[t.value(b"a") == b"1", t.version(b"a") > 0, t.create(b"b") == 0],
            success=[t.put(b"b", b"2"), t.get(b"a"), t.txn(compare=[t.mod(b"a") > 0], success=[t.delete(b"a")], failure=[])],
            failure=[t.put(b"b", b"3")],
        )
        self.assertTrue(taken)
        self.assertEqual(answers[1][0][0], b"1")
        self.assertIsNone(await self.client.get(b"a"))
        self.assertEqual((await self.client.get(b"b")).value, b"2")
        with self.assertRaises(aetcd.ClientError):
            await self.client.transaction(compare=[], success=[t.put(b"x", b"1"), t.put(b"x", b"2")], failure=[])

    async def test_watches(self):
        await self.client.put(b"w/a", b"0")
        watch = await self.client.watch_prefix(b"w/", prev_kv=True)
        await self.client.put(b"w/a", b"1")
        await self.client.put(b"elsewhere", b"1")
        await self.client.delete(b"w/a")
        seen = []
        async with asyncio.timeout(20):
            async for event in watch:
                seen.append((event.kind, event.kv.key, event.kv.value, event.prev_kv.value))
                if len(seen) == 2:
                    break
        await watch.cancel()
        put, delete = aetcd.EventKind.PUT, aetcd.EventKind.DELETE
        self.assertEqual(seen, [(put, b"w/a", b"1", b"0"), (delete, b"w/a", b"", b"1")])

    async def test_a_watch_from_a_compacted_revision(self):
        for number in range(4):
            put = await self.client.put(b"k", b"%d" % number)
        await self.client.compact(put.header.revision, physical=True)
        watch = await self.client.watch(b"k", start_revision=put.header.revision - 2)
        with self.assertRaises(aetcd.RevisionCompactedError) as raised:
            async with asyncio.timeout(20):
                async for _ in watch:
                    pass
        self.assertEqual(raised.exception.compacted_revision, put.header.revision)

    async def test_leases(self):
        lease = await self.client.lease(60)
        await self.client.put(b"leased", b"1", lease=lease)
        self.assertEqual(await lease.keys(), [b"leased"])
        self.assertEqual(await lease.granted_ttl(), 60)
        self.assertTrue(50 <= await lease.remaining_ttl() <= 60)
        self.assertEqual((await lease.refresh()).TTL, 60)
        await lease.revoke()
        self.assertIsNone(await self.client.get(b"leased"))
        short = await self.client.lease(1)
        await self.client.put(b"short", b"1", lease=short)
        async with asyncio.timeout(20):
            while await self.client.get(b"short"):
                await asyncio.sleep(0.1)

    async def test_locks(self):
        first, second = self.client.lock(b"lock", ttl=30), self.client.lock(b"lock", ttl=30)
        self.assertTrue(await first.acquire())
        self.assertFalse(await second.acquire(timeout=1))
        await first.release()
        self.assertTrue(await second.acquire())
        await second.release()

    async def test_maintenance(self):
        status = await self.client.status()
        members = [member async for member in self.client.members()]
        self.assertEqual([member.id for member in members], [status.leader.id])
        self.assertRegex(status.version, r"^3\.\d+\.\d+")
        self.assertGreater(await self.client.hash(), 0)
        self.assertEqual([alarm async for alarm in self.client.list_alarms()], [])
        await self.client.defragment()
        snapshot = io.BytesIO()
        await self.client.snapshot(snapshot)
        # A file of whole pages, and the SHA-256 of it.
        self.assertEqual(len(snapshot.getvalue()) % 512, 32)


if __name__ == "__main__":
    unittest.main()
