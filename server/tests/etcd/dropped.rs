//! A member that is dropped without a shutdown leaves its disk as a crash would, and harms nobody.

use std::{env, process::Command};

use meshstore_server::{Config, Member};
use proto::etcdserverpb::{self as pb, kv_client::KvClient};

/// Set in the process that drops a member: where its data is.
const DATA: &str = "MESHSTORE_TEST_DROPPED";
/// The race is with the end of the process.
const TRIES: usize = 12;

#[test]
fn a_process_may_end_with_a_member_that_was_only_dropped() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for round in 0..TRIES {
        let test = ["dropped::drops_a_member", "--exact", "--nocapture"];
        let program = env::current_exe().expect("this program");
        let output = Command::new(program).args(test).env(DATA, dir.path()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "round {round}: {}: {said}", output.status);
    }
}

/// Not a test of its own: what the test above runs.
#[test]
fn drops_a_member() {
    let Ok(dir) = env::var(DATA) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = Config { data_dir: dir.into(), ..Config::default() };
        let member = Member::start(config).await.expect("the member starts");
        let mut kv = KvClient::new(member.routes());
        for number in 0..50 {
            let put = pb::PutRequest {
                key: format!("k{number}").into(),
                value: vec![1; 100_000].into(),
                ..Default::default()
            };
            kv.put(put).await.expect("put");
        }
        drop((kv, member));
    });
}
