use super::*;
use client::{Alarm, Event, KeyValue, MemberInfo, OpResponse, Permission, PermissionKind};
use types::{KeyRange, LeaseId};

const HEADER: Header = Header { cluster_id: 1, member_id: 0xab, raft_term: 2 };

fn revision(value: i64) -> Revision {
    Revision::new(value).unwrap()
}

fn foo() -> KeyValue {
    KeyValue {
        key: "foo".into(),
        value: "b\n".into(),
        create_revision: revision(2),
        mod_revision: revision(4),
        version: 2,
        lease: None,
    }
}

fn found() -> GetResponse {
    GetResponse { header: HEADER, revision: revision(4), kvs: vec![foo()], more: false, count: 1 }
}

fn printed(format: Format, hex: bool, response: &Response<'_>) -> String {
    let mut out = Vec::new();
    Printer { format, hex }.print(response, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn keys_are_printed_as_etcdctl_prints_them() {
    let found = found();
    let get = |shown| Response::Get(&found, shown);
    let json = concat!(
        r#"{"header":{"cluster_id":1,"member_id":171,"revision":4,"raft_term":2},"kvs":[{"key":"Zm9v","#,
        r#""create_revision":2,"mod_revision":4,"version":2,"value":"Ygo="}],"count":1}"#,
        "\n"
    );
    let fields = "\"ClusterID\" : 1\n\"MemberID\" : 171\n\"Revision\" : 4\n\"RaftTerm\" : 2\n\"Key\" : \"foo\"\n\
                  \"CreateRevision\" : 2\n\"ModRevision\" : 4\n\"Version\" : 2\n\"Value\" : \"b\\n\"\n\"Lease\" : 0\n\
                  \"More\" : false\n\"Count\" : 1\n";
    let cases = [
        (Format::Simple, false, Shown::KeyAndValue, "foo\nb\n\n"),
        (Format::Simple, true, Shown::KeyAndValue, "\\x66\\x6f\\x6f\n\\x62\\x0a\n"),
        (Format::Simple, false, Shown::Value, "b\n\n"),
        (Format::Simple, false, Shown::Count, "1\n"),
        (Format::Json, false, Shown::KeyAndValue, json),
        (Format::Fields, false, Shown::KeyAndValue, fields),
    ];
    for (format, hex, shown, expected) in cases {
        assert_eq!(printed(format, hex, &get(shown)), expected, "{format:?} hex={hex} {shown:?}");
    }
}

#[test]
fn writes_are_printed_as_etcdctl_prints_them() {
    let put = PutResponse { header: HEADER, revision: revision(5), prev_kv: Some(foo()) };
    assert_eq!(printed(Format::Simple, false, &Response::Put(&put)), "OK\nfoo\nb\n\n");
    assert!(
        printed(Format::Fields, false, &Response::Put(&put))
            .contains("\"PrevKey\" : \"foo\"\n\"PrevCreateRevision\" : 2\n")
    );
    let delete = DeleteResponse { header: HEADER, revision: revision(5), deleted: 0, prev_kvs: Vec::new() };
    assert_eq!(printed(Format::Simple, false, &Response::Delete(&delete)), "0\n");
    let json = "{\"header\":{\"cluster_id\":1,\"member_id\":171,\"revision\":5,\"raft_term\":2}}\n";
    assert_eq!(printed(Format::Json, false, &Response::Delete(&delete)), json);
    let done = Response::Done(Some((HEADER, revision(9))), "compacted revision 4".into());
    assert_eq!(printed(Format::Simple, false, &done), "compacted revision 4\n");
    assert_eq!(printed(Format::Json, false, &Response::Done(None, String::new())), "{}\n");
}

#[test]
fn transactions_are_printed_as_etcdctl_prints_them() {
    let inside = PutResponse { header: Header::default(), revision: revision(5), prev_kv: None };
    let txn = TxnResponse {
        header: HEADER,
        revision: revision(5),
        succeeded: false,
        responses: vec![OpResponse::Put(inside), OpResponse::Get(found())],
    };
    assert_eq!(printed(Format::Simple, false, &Response::Txn(&txn)), "FAILURE\n\nOK\n\nfoo\nb\n\n");
    let json = printed(Format::Json, false, &Response::Txn(&txn));
    let start = concat!(
        r#"{"header":{"cluster_id":1,"member_id":171,"revision":5,"raft_term":2},"responses":["#,
        r#"{"Response":{"response_put":{"header":{"revision":5}}}},{"Response":{"response_range":"#
    );
    assert!(json.starts_with(start), "{json}");
}

#[test]
fn events_are_printed_as_etcdctl_prints_them() {
    let put = Event::Put { kv: foo(), prev: Some(foo()) };
    let delete = Event::Delete { key: "foo".into(), revision: revision(5), prev: None };
    let batch =
        WatchBatch { header: HEADER, revision: revision(5), store_revision: revision(5), events: vec![put, delete] };
    assert_eq!(printed(Format::Simple, false, &Response::Watch(&batch)), "PUT\nfoo\nb\n\nfoo\nb\n\nDELETE\nfoo\n\n");
    let json = printed(Format::Json, false, &Response::Watch(&batch));
    assert!(json.contains(r#"{"type":1,"kv":{"key":"Zm9v","mod_revision":5}}"#), "{json}");
    assert!(json.ends_with("\"CompactRevision\":0,\"Canceled\":false,\"Created\":false}\n"), "{json}");
}

#[test]
fn leases_are_printed_as_etcdctl_prints_them() {
    let id = LeaseId::new(0x390d_a205_3f7f_671e).unwrap();
    let ttl = Duration::from_secs(100);
    let grant = GrantResponse { header: HEADER, revision: revision(9), id, ttl };
    let kept = KeepAliveResponse { header: HEADER, revision: revision(9), id, ttl };
    let alive = TimeToLiveResponse {
        header: HEADER,
        revision: revision(9),
        id,
        remaining: Some(Duration::from_secs(99)),
        granted: ttl,
        keys: vec!["k".into(), "l".into()],
    };
    let gone = TimeToLiveResponse { remaining: None, granted: Duration::ZERO, keys: Vec::new(), ..alive.clone() };
    let all = LeasesResponse { header: HEADER, revision: revision(9), leases: vec![id] };
    let cases = [
        (Response::Grant(&grant), "lease 390da2053f7f671e granted with TTL(100s)\n"),
        (Response::KeepAlive(&kept), "lease 390da2053f7f671e keepalived with TTL(100)\n"),
        (Response::TimeToLive(&alive, false), "lease 390da2053f7f671e granted with TTL(100s), remaining(99s)\n"),
        (
            Response::TimeToLive(&alive, true),
            "lease 390da2053f7f671e granted with TTL(100s), remaining(99s), attached keys([k l])\n",
        ),
        (Response::TimeToLive(&gone, true), "lease 390da2053f7f671e already expired\n"),
        (Response::Leases(&all), "found 1 leases\n390da2053f7f671e\n"),
    ];
    for (response, expected) in &cases {
        assert_eq!(printed(Format::Simple, false, response), *expected);
    }
    let json = concat!(
        r#"{"cluster_id":1,"member_id":171,"revision":9,"raft_term":2,"id":4111120178282981150,"ttl":99,"#,
        r#""granted-ttl":100,"keys":["aw==","bA=="]}"#,
        "\n"
    );
    assert_eq!(printed(Format::Json, false, &Response::TimeToLive(&alive, true)), json);
}

#[test]
fn members_are_printed_as_etcdctl_prints_them() {
    let member = MemberInfo {
        id: 0xab,
        name: "default".into(),
        peer_urls: vec!["http://p".into()],
        client_urls: vec!["http://c".into()],
        is_learner: false,
    };
    let members = MemberListResponse { header: HEADER, members: vec![member] };
    let response = Response::Members(&members);
    assert_eq!(printed(Format::Simple, false, &response), "ab, started, default, http://p, http://c, false\n");
    let json = concat!(
        r#"{"header":{"cluster_id":1,"member_id":171,"raft_term":2},"members":[{"ID":171,"name":"default","#,
        r#""peerURLs":["http://p"],"clientURLs":["http://c"]}]}"#,
        "\n"
    );
    assert_eq!(printed(Format::Json, false, &response), json);
    let hex = json.replace(":1,", ":\"1\",").replace(":171,", ":\"ab\",");
    assert_eq!(printed(Format::Json, true, &response), hex);
    let table = "\
+----+---------+---------+------------+--------------+------------+
| ID | STATUS  |  NAME   | PEER ADDRS | CLIENT ADDRS | IS LEARNER |
+----+---------+---------+------------+--------------+------------+
| ab | started | default |   http://p |     http://c |      false |
+----+---------+---------+------------+--------------+------------+
";
    assert_eq!(printed(Format::Table, false, &response), table);
}

#[test]
fn sizes_are_rounded_as_etcdctl_rounds_them() {
    let cases = [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1550, "1.6 kB"),
        (20_480, "20 kB"),
        (25_500, "26 kB"),
        (1_500_000, "1.5 MB"),
        (347_000_000, "347 MB"),
        (-1, "0 B"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(size(bytes), expected, "{bytes}");
    }
}

#[test]
fn a_table_is_refused_before_anything_is_sent() {
    let table = Printer { format: Format::Table, hex: false };
    assert_eq!(table.without(&[Format::Table]).map_err(|failure| failure.exit).unwrap_err(), Exit::BadFeature);
}

#[test]
fn users_and_roles_are_printed_as_etcdctl_prints_them() {
    let permission = |kind, range| Permission { kind, range };
    let role = RoleGetResponse {
        header: HEADER,
        revision: revision(7),
        permissions: vec![
            permission(PermissionKind::Read, KeyRange::Between("a".into(), "b".into())),
            permission(PermissionKind::ReadWrite, KeyRange::One("foo".into())),
            permission(PermissionKind::Write, KeyRange::Between("k".into(), "z".into())),
            permission(PermissionKind::Read, KeyRange::AtLeast("zz".into())),
        ],
    };
    let role = Response::Role(&role, "r1");
    let simple = "Role r1\nKV Read:\n\t[a, b) (prefix a)\n\tfoo\n\t[zz, <open ended>\nKV Write:\n\tfoo\n\t[k, z)\n";
    assert_eq!(printed(Format::Simple, false, &role), simple);
    let json = concat!(
        r#"{"header":{"cluster_id":1,"member_id":171,"revision":7,"raft_term":2},"perm":[{"key":"YQ==","range_end":"Yg=="},"#,
        r#"{"permType":2,"key":"Zm9v"},{"permType":1,"key":"aw==","range_end":"eg=="},{"key":"eno=","range_end":"AA=="}]}"#,
        "\n"
    );
    assert_eq!(printed(Format::Json, false, &role), json);
    let fields = printed(Format::Fields, false, &role);
    assert!(fields.ends_with("\"PermType\" :  READ\n\"Key\" : \"zz\"\n\"RangeEnd\" : \"\\x00\"\n"), "{fields}");

    let names = NamesResponse { header: HEADER, revision: revision(7), names: vec!["a".into(), "b".into()] };
    let none = NamesResponse { names: Vec::new(), ..names.clone() };
    assert_eq!(printed(Format::Simple, false, &Response::User(&names, "u")), "User: u\nRoles: a b\n");
    assert_eq!(printed(Format::Simple, false, &Response::User(&none, "u")), "User: u\nRoles:\n");
    assert_eq!(printed(Format::Simple, false, &Response::Users(&names)), "a\nb\n");
    assert!(printed(Format::Fields, false, &Response::Roles(&names)).ends_with("\"Roles\" : \"a\" \"b\"\n"));
    assert!(printed(Format::Json, false, &Response::Users(&names)).ends_with("\"users\":[\"a\",\"b\"]}\n"));
}

#[test]
fn alarms_are_printed_as_etcdctl_prints_them() {
    let alarms = vec![Alarm { member_id: 7, kind: AlarmKind::NoSpace }];
    let response = AlarmsResponse { header: HEADER, revision: Some(revision(1)), alarms };
    let response = Response::Alarms(&response);
    assert_eq!(printed(Format::Simple, false, &response), "memberID:7 alarm:NOSPACE \n");
    assert!(printed(Format::Json, false, &response).ends_with("\"alarms\":[{\"memberID\":7,\"alarm\":1}]}\n"));
    assert!(printed(Format::Fields, false, &response).ends_with("\"MemberID\" : 7\n\"AlarmType\" : NOSPACE\n\n"));
}
