use std::{io, thread::JoinHandle};

use bytes::Bytes;
use engine::{Batch, Durability};
use openraft::{EntryPayload, StorageError, testing::log as suite, type_config::TypeConfigExt};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::{
    ClusterId, Config, MemberId,
    apply::{self, Driver},
    codec::{self, Identity, Record},
    life::Disk,
    tests::journal::{self, Journal},
    threads::Idle,
    types::{Proposal, Tag, log_id},
    waiters::Waiters,
};

/// Few bytes of cache, so that reads come from the disk too.
pub(super) fn config() -> Config {
    Config { cache_bytes_max: 400, ..Config::new(ClusterId(1), MemberId(1)) }
}

/// The store on `engine`, its writer on a thread.
fn open(engine: Engine, fatal: Fatal) -> (LogStore, Closed) {
    let recovered = recover(&engine, &config(), None).unwrap();
    let (store, writer, closed) = LogStore::new(engine, recovered, usize::MAX, fatal);
    on_a_thread(writer.run(Idle::default()));
    (store, closed)
}

pub(super) fn entry(term: u64, index: u64) -> Entry {
    let proposal = Proposal { tag: Tag { member: 1, session: 1, sequence: index }, commands: [].into() };
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(proposal) }
}

/// Appends and waits until it is on stable storage.
async fn append(
    store: &mut LogStore,
    entries: impl IntoIterator<Item = Entry, IntoIter: Send> + Send,
) -> io::Result<()> {
    let (done, flushed) = Types::oneshot();
    store.append(entries, IOFlushed::signal(done)).await?;
    flushed.await.map_err(io::Error::other)?
}

async fn read(store: &mut LogStore, range: impl RangeBounds<u64> + Clone + Debug + Send) -> Vec<(u64, u64)> {
    let entries = store.get_log_reader().await.try_get_log_entries(range).await.unwrap();
    entries.iter().map(|entry| (entry.log_id.leader_id.term, entry.log_id.index)).collect()
}

/// Runs what blocks its thread.
fn on_a_thread(body: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let runtime = Handle::current();
    std::thread::spawn(move || runtime.block_on(body))
}

struct Builder;

/// Each store on a disk of its own.
impl suite::StoreBuilder<Types, LogStore, Driver, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Driver), StorageError<Types>> {
        let (dir, fatal) = (tempfile::tempdir().unwrap(), Fatal::new());
        let engine = Engine::open(dir.path(), SPACES, &engine::Options::default()).unwrap();
        let (store, _) = open(engine, fatal.clone());
        let machine = Journal::new(Engine::in_memory(journal::SPACES));
        let waiters = Arc::new(Waiters::new(1, 1));
        let (driver, applier, _) = apply::driver(machine, Record::default(), waiters, &config(), fatal);
        on_a_thread(applier.run(Idle::default()));
        Ok((dir, store, driver))
    }
}

/// openraft's own suite, but for the transfer of a snapshot: it takes for granted that a snapshot goes from one machine to
/// another without a collection in between.
macro_rules! openraft_suite {
    ($($name:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            use suite::StoreBuilder as _;
            let (_dir, store, driver) = Builder.build().await.unwrap();
            suite::Suite::<Types, LogStore, Driver, Builder, TempDir>::$name(store, driver).await.unwrap();
        }
    )*};
}

openraft_suite!(
    last_membership_in_log_initial,
    last_membership_in_log,
    last_membership_in_log_multi_step,
    get_membership_initial,
    get_membership_from_log_and_empty_sm,
    get_membership_from_empty_log_and_sm,
    get_membership_from_log_le_sm_last_applied,
    get_membership_from_log_gt_sm_last_applied_1,
    get_membership_from_log_gt_sm_last_applied_2,
    get_initial_state_without_init,
    get_initial_state_membership_from_empty_log_and_sm,
    get_initial_state_membership_from_sm_inlog_is_smaller,
    get_initial_state_membership_from_log_insm_is_smaller,
    get_initial_state_with_state,
    get_initial_state_last_log_gt_sm,
    get_initial_state_last_log_lt_sm,
    get_initial_state_inverted_log_order,
    get_initial_state_conflict_at_same_index,
    get_initial_state_log_ids,
    get_initial_state_re_apply_committed,
    save_vote,
    get_log_entries,
    limited_get_log_entries,
    leader_bounded_stream,
    entries_stream,
    try_get_log_entry,
    log_reader_reads_new_entries,
    initial_logs,
    get_log_state,
    get_log_id,
    last_id_in_log,
    last_applied_state,
    purge_logs_upto_0,
    purge_logs_upto_5,
    purge_logs_upto_20,
    delete_logs_after_11,
    delete_logs_after_5,
    delete_logs_after_0,
    delete_logs_after_none,
    append_to_log,
    snapshot_meta,
    snapshot_meta_optional,
    apply_single,
    apply_multiple,
);

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_log_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let start = || open(Engine::open(dir.path(), SPACES, &engine::Options::default()).unwrap(), Fatal::new());
    let (mut store, closed) = start();
    store.save_vote(&Vote::new_committed(2, 1)).await.unwrap();
    append(&mut store, (0..20).map(|index| entry(1, index))).await.unwrap();
    store.truncate_after(Some(log_id(1, 9))).await.unwrap();
    append(&mut store, (10..15).map(|index| entry(2, index))).await.unwrap();
    store.purge(log_id(1, 3)).await.unwrap();
    store.save_committed(Some(log_id(1, 8))).await.unwrap();
    // Waits for the commit index too: writes keep their order.
    store.save_vote(&Vote::new(3, 1)).await.unwrap();
    drop(store);
    closed.wait().await;

    let (mut store, _) = start();
    let expected: Vec<_> = (4..10).map(|index| (1, index)).chain((10..15).map(|index| (2, index))).collect();
    assert_eq!(read(&mut store, ..).await, expected);
    assert_eq!(read(&mut store, 8..=10).await, [(1, 8), (1, 9), (2, 10)]);
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 8)));
    assert_eq!(store.get_log_reader().await.read_vote().await.unwrap(), Some(Vote::new(3, 1)));
    let state = store.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(1, 3)), Some(log_id(2, 14))));
}

/// openraft would send what follows as if nothing lay between.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_given_in_the_place_of_what_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(Engine::open(dir.path(), SPACES, &engine::Options::default()).unwrap(), Fatal::new());
    append(&mut store, (0..20).map(|index| entry(1, index))).await.unwrap();
    let purged = store.purged();
    assert!(!purged.is_after(None), "nothing is gone");
    store.purge(log_id(1, 9)).await.unwrap();
    let mut reader = store.get_log_reader().await;
    for (start, indexes) in [(4, 0..0), (9, 0..0), (10, 10..15), (12, 12..15)] {
        let read = reader.limited_get_log_entries(start, 15).await.unwrap();
        assert_eq!(read.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(), indexes.collect::<Vec<_>>());
    }
    assert!(purged.is_after(None) && purged.is_after(Some(log_id(1, 8))));
    assert!(!purged.is_after(Some(log_id(1, 9))));
}

/// Records whose checksums are right, and which say what no log can have come to.
#[test]
fn a_log_that_claims_to_have_counted_to_the_end_is_damaged() {
    let disk = Disk { incarnation: 1, starts: u64::MAX };
    let far = log_id(1, u64::MAX);
    let records: [(u8, Bytes); 5] = [
        (0, codec::encode_identity(&Identity { cluster: 1, member: 1, disk })),
        (1, codec::encode_vote(&Vote::new(u64::MAX, 1))),
        (2, codec::encode_log_id(&far)),
        (3, codec::encode_log_id(&far)),
        (5, codec::encode_entry(&entry(1, u64::MAX))),
    ];
    for (what, record) in records {
        let (engine, mut batch) = (Engine::in_memory(SPACES), Batch::new());
        put_record(&mut batch, what, record);
        engine.write(batch, Durability::Buffered).unwrap();
        let recovered = recover(&engine, &config(), None);
        assert!(matches!(recovered, Err(RaftError::Corrupt { .. })), "{what}: {recovered:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_stops_the_log_for_good() {
    let engine = Engine::in_memory(SPACES);
    let (recovered, fatal) = (recover(&engine, &config(), None).unwrap(), Fatal::new());
    // An engine without the log's spaces fails every write.
    let (mut store, writer, _) = LogStore::new(Engine::in_memory(&[]), recovered, usize::MAX, fatal.clone());
    let writer = on_a_thread(writer.run(Idle::default()));
    assert!(append(&mut store, [entry(1, 0)]).await.is_err());
    assert!(matches!(fatal.wait().await, RaftError::Log(_)));
    writer.join().unwrap();
    assert!(append(&mut store, [entry(1, 1)]).await.is_err());
    assert!(store.save_vote(&Vote::new(1, 1)).await.is_err());
}
