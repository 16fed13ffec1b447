"""What Python programs that use etcd3gw (the JSON gateway over HTTP) do with the server at $ENDPOINT, which holds no keys."""

import os
import threading
import time
import unittest

import etcd3gw
from etcd3gw.exceptions import Etcd3Exception

HOST, PORT = os.environ["ENDPOINT"].split(":")


class Etcd3gw(unittest.TestCase):
    def setUp(self):
        self.client = etcd3gw.client(host=HOST, port=int(PORT), timeout=20)
        self.client.delete("\0", range_end="\0")

    def test_keys(self):
        self.assertEqual(self.client.get("k"), [])
        self.assertTrue(self.client.put("k", b"\x00\xff"))
        self.assertEqual(self.client.get("k"), [b"\x00\xff"])
        self.assertTrue(self.client.replace("k", b"\x00\xff", "2"))
        self.assertFalse(self.client.replace("k", "1", "3"))
        value, about = self.client.get("k", metadata=True)[0]
        self.assertEqual((value, about["version"]), (b"2", "2"))
        self.assertTrue(self.client.delete("k"))
        self.assertFalse(self.client.delete("k"))

    def test_ranges(self):
        for number in range(5):
            self.client.put(f"p/{number}", str(9 - number))
        found = self.client.get_prefix("p/", sort_order="descend")
        self.assertEqual([about["key"] for _, about in found], [b"p/4", b"p/3", b"p/2", b"p/1", b"p/0"])
        found = self.client.get_prefix("p/", sort_order="ascend", sort_target="value")
        self.assertEqual([value for value, _ in found], [b"5", b"6", b"7", b"8", b"9"])
        self.assertEqual(len(self.client.get_all()), 5)
        self.assertTrue(self.client.delete_prefix("p/"))

    def test_transactions(self):
        self.assertTrue(self.client.create("c", "1"))
        self.assertFalse(self.client.create("c", "2"))
        self.assertEqual(self.client.get("c"), [b"1"])
        with self.assertRaises(Etcd3Exception):
            put = {"request_put": {"key": "eA==", "value": "MQ=="}}
            self.client.transaction({"compare": [], "success": [put, put], "failure": []})

    def test_leases(self):
        lease = self.client.lease(ttl=60)
        self.client.put("leased", "1", lease=lease)
        self.assertEqual(lease.keys(), [b"leased"])
        self.assertTrue(50 <= lease.ttl() <= 60)
        self.assertEqual(lease.refresh(), 60)
        self.assertTrue(lease.revoke())
        self.assertEqual(self.client.get("leased"), [])

    def test_locks(self):
        with self.client.lock("lock", ttl=30) as lock:
            self.assertTrue(lock.is_acquired())
            self.assertFalse(self.client.lock("lock", ttl=30).acquire())
        self.assertTrue(self.client.lock("lock", ttl=30).acquire())

    def test_watches(self):
        events, cancel = self.client.watch_prefix("w/")

        def write():
            time.sleep(0.5)
            self.client.put("w/a", "1")
            self.client.put("elsewhere", "1")
            self.client.delete("w/a")

        writer = threading.Thread(target=write)
        writer.start()
        seen = [next(events) for _ in range(2)]
        cancel()
        writer.join()
        self.assertEqual([event["kv"]["key"] for event in seen], [b"w/a", b"w/a"])
        self.assertEqual([event.get("type", "PUT") for event in seen], ["PUT", "DELETE"])

    def test_maintenance(self):
        status, members = self.client.status(), self.client.members()
        self.assertEqual([member["ID"] for member in members], [status["leader"]])


if __name__ == "__main__":
    unittest.main()
