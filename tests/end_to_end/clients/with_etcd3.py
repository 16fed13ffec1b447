"""What Python programs that use etcd3 (gRPC, blocking) do with the server at $ENDPOINT (host:port), which holds no keys."""

import io
import os
import time
import unittest

import etcd3

HOST, PORT = os.environ["ENDPOINT"].split(":")


class Etcd3(unittest.TestCase):
    def setUp(self):
        self.client = etcd3.client(host=HOST, port=int(PORT), timeout=20)
        self.addCleanup(self.client.close)
        for _, about in self.client.get_all():
            self.client.delete(about.key)

    def test_keys(self):
        self.assertEqual(self.client.get("k"), (None, None))
        self.client.put("k", "1")
        put = self.client.put("k", b"\x00\xff", prev_kv=True)
        self.assertEqual(put.prev_kv.value, b"1")
        value, about = self.client.get("k")
        self.assertEqual((value, about.key, about.version), (b"\x00\xff", b"k", 2))
        self.assertFalse(self.client.put_if_not_exists("k", "2"))
        self.assertTrue(self.client.replace("k", b"\x00\xff", "3"))
        self.assertFalse(self.client.replace("k", "2", "4"))
        self.assertTrue(self.client.delete("k"))
        self.assertFalse(self.client.delete("k"))

    def test_ranges(self):
        for number in range(5):
            self.client.put(f"p/{number}", str(9 - number))
        found = self.client.get_prefix("p/", sort_order="descend")
        self.assertEqual([about.key for _, about in found], [b"p/4", b"p/3", b"p/2", b"p/1", b"p/0"])
        found = self.client.get_prefix("p/", sort_order="ascend", sort_target="value")
        self.assertEqual([value for value, _ in found], [b"5", b"6", b"7", b"8", b"9"])
        self.assertEqual([value for value, _ in self.client.get_range("p/1", "p/3")], [b"8", b"7"])
        self.assertEqual([value for value, _ in self.client.get_prefix("p/", keys_only=True)], [b""] * 5)
        self.assertEqual(self.client.delete_prefix("p/").deleted, 5)

    def test_transactions(self):
        t = self.client.transactions
        self.client.put("a", "1")
        taken, answers = self.client.transaction(
            compare=[t.value("a") == "1", t.version("a") > 0, t.create("b") == 0],
            success=[t.put("b", "2"), t.get("a"), t.delete("a")],
            failure=[t.put("b", "3")],
        )
        self.assertTrue(taken)
        self.assertEqual(answers[1][0][0], b"1")
        self.assertEqual(self.client.get("a"), (None, None))
        self.assertEqual(self.client.get("b")[0], b"2")
        taken, _ = self.client.transaction(compare=[t.mod("b") == 1], success=[], failure=[t.delete("b")])
        self.assertFalse(taken)
        self.assertEqual(self.client.get("b"), (None, None))

    def test_watches(self):
        events, cancel = self.client.watch_prefix("w/", prev_kv=True)
        self.client.put("w/a", "1")
        self.client.put("elsewhere", "1")
        self.client.delete("w/a")
        put, delete = next(events), next(events)
        cancel()
        self.assertIsInstance(put, etcd3.events.PutEvent)
        self.assertEqual((put.key, put.value), (b"w/a", b"1"))
        self.assertIsInstance(delete, etcd3.events.DeleteEvent)
        self.assertEqual((delete.key, delete.prev_value), (b"w/a", b"1"))

    def test_a_watch_of_the_past(self):
        first = self.client.put("k", "1").header.revision
        self.client.put("k", "2")
        events, cancel = self.client.watch("k", start_revision=first)
        self.assertEqual([next(events).value, next(events).value], [b"1", b"2"])
        cancel()
        together = self.client.watch_once_response("k", timeout=20, start_revision=first)
        self.assertEqual([event.value for event in together.events], [b"1", b"2"])

    def test_leases(self):
        lease = self.client.lease(60)
        self.client.put("leased", "1", lease=lease)
        self.assertEqual(lease.keys, [b"leased"])
        self.assertEqual(lease.granted_ttl, 60)
        self.assertTrue(50 <= lease.remaining_ttl <= 60)
        self.assertEqual([answer.TTL for answer in lease.refresh()], [60])
        lease.revoke()
        self.assertEqual(self.client.get("leased"), (None, None))
        self.client.put("short", "1", lease=self.client.lease(1))
        while self.client.get("short")[0]:
            time.sleep(0.1)

    def test_compaction(self):
        for number in range(3):
            put = self.client.put("k", str(number))
        self.client.compact(put.header.revision)
        with self.assertRaises(Exception):
            self.client.compact(put.header.revision)
        self.assertEqual(self.client.get("k")[0], b"2")

    def test_maintenance(self):
        status = self.client.status()
        self.assertEqual([member.id for member in self.client.members], [status.leader.id])
        self.assertRegex(status.version, r"^3\.\d+\.\d+")
        self.assertGreater(self.client.hash(), 0)
        self.assertEqual(list(self.client.list_alarms()), [])
        self.addCleanup(self.client.disarm_alarm)
        self.assertEqual([alarm.alarm_type for alarm in self.client.create_alarm()], [1])
        with self.assertRaises(Exception):
            self.client.put("k", "no room")
        self.client.disarm_alarm()
        self.client.put("k", "room again")
        self.client.defragment()
        snapshot = io.BytesIO()
        self.client.snapshot(snapshot)
        # A file of whole pages, and the SHA-256 of it.
        self.assertEqual(len(snapshot.getvalue()) % 512, 32)


if __name__ == "__main__":
    unittest.main()
