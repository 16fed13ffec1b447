//! Segments that are small enough to come and go, and files spoiled.

use std::{
    fs::{self, OpenOptions},
    ops::Range,
    os::unix::fs::FileExt,
    thread,
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::*;

const LOG: Space = Space::new("log");
const META: Space = Space::new("meta");
const SMALL_BYTES: u64 = 4096;

fn open(dir: &Path) -> Result<Journal, EngineError> {
    Journal::with_segments(dir, &[LOG, META], SMALL_BYTES)
}

fn put(journal: &Journal, space: Space, key: u64, value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(space, key.to_be_bytes().to_vec(), value.to_vec());
    journal.write(batch).expect("written");
}

fn purge(journal: &Journal, to: u64) {
    let mut batch = Batch::new();
    batch.delete_range(LOG, 0_u64.to_be_bytes().to_vec(), to.to_be_bytes().to_vec());
    journal.write(batch).expect("written");
}

fn keys(journal: &Journal, space: Space) -> Vec<u64> {
    let mut cursor = journal.cursor(space).expect("the space exists");
    let mut keys = Vec::new();
    cursor.seek(&[]);
    while let Some((key, _)) = cursor.entry() {
        keys.push(u64::from_be_bytes(key.try_into().expect("8 bytes")));
        cursor.next();
    }
    cursor.status().expect("the disk is sound");
    keys
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let numbers = Segment::numbers(dir).expect("readable");
    numbers.into_iter().map(|number| dir.join(format!("{number:016x}.journal"))).collect()
}

/// Waits until no more than so many are left: they are removed behind the writer's back.
fn left(dir: &Path, max: usize) {
    for _ in 0..1000 {
        if segments(dir).len() <= max {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?} are not removed", segments(dir));
}

/// A folder with ten rows of `bytes` bytes, each in a frame of its own, and where in its file the last one lies.
fn ten(bytes: usize) -> (tempfile::TempDir, Range<usize>) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let journal = Journal::open(dir.path(), &[LOG, META]).expect("a fresh folder");
    let at = || usize::try_from(journal.0.writer.lock().at).expect("small");
    (0..9).for_each(|key| put(&journal, LOG, key, &vec![b'v'; bytes]));
    let start = at();
    put(&journal, LOG, 9, &vec![b'v'; bytes]);
    let last = start..at();
    drop(journal);
    (dir, last)
}

#[test]
fn the_oldest_segments_go_with_their_rows_and_what_lives_on_moves() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let journal = open(dir.path()).expect("a fresh folder");
    put(&journal, META, 7, b"lives long");
    for key in 0..400 {
        put(&journal, LOG, key, &[b'v'; 100]);
        if key % 20 == 19 {
            purge(&journal, key - 9);
        }
    }
    left(dir.path(), 3);
    assert!(journal.disk_bytes() < 4 * (SMALL_BYTES + ROOM_BYTES as u64), "{}", journal.disk_bytes());
    let check = |journal: &Journal| {
        assert_eq!(keys(journal, LOG), (390..400).collect::<Vec<_>>());
        let meta = journal.get(META, &7_u64.to_be_bytes()).expect("read");
        assert_eq!(meta.as_deref(), Some(&b"lives long"[..]));
    };
    check(&journal);
    drop(journal);
    check(&open(dir.path()).expect("sound"));
}

#[test]
fn what_is_pinned_is_read_from_a_segment_that_is_gone() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let journal = open(dir.path()).expect("a fresh folder");
    put(&journal, LOG, 0, b"first");
    let pinned = journal.pin();
    (1..200).for_each(|key| put(&journal, LOG, key, &[b'v'; 100]));
    purge(&journal, 199);
    left(dir.path(), 1);
    assert_eq!(pinned.get(LOG, &0_u64.to_be_bytes()).expect("read").as_deref(), Some(&b"first"[..]));
}

#[test]
fn all_that_was_let_go_is_removed_when_the_journal_ends() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let journal = open(dir.path()).expect("a fresh folder");
    (0..400).for_each(|key| put(&journal, LOG, key, &[b'v'; 100]));
    purge(&journal, 400);
    drop(journal);
    assert_eq!(segments(dir.path()).len(), 1);
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let _journal = open(dir.path()).expect("a fresh folder");
    assert!(matches!(open(dir.path()), Err(EngineError::InUse(_))));
}

#[test]
fn a_write_that_was_cut_short_at_any_sector_is_forgotten_and_the_journal_goes_on() {
    let (whole, Range { start, end }) = ten(3000);
    let file = segments(whole.path()).pop().expect("a segment");
    let content = fs::read(&file).expect("readable");
    // Any of the last frame's sectors may be missing, whichever others are there.
    let first = start / 512;
    let sectors = end.div_ceil(512) - first;
    for missing in 1..(1_u32 << sectors) {
        let mut torn = content.clone();
        for sector in (0..sectors).filter(|sector| missing >> sector & 1 == 1) {
            let from = ((first + sector) * 512).max(start);
            torn[from..((first + sector + 1) * 512).min(end)].fill(0);
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join(file.file_name().expect("a name")), &torn).expect("written");
        let journal = Journal::open(dir.path(), &[LOG, META]).expect("a torn end is cut");
        assert_eq!(keys(&journal, LOG), (0..9).collect::<Vec<_>>(), "{missing:b}");
        put(&journal, LOG, 9, b"again");
        drop(journal);
        let journal = Journal::open(dir.path(), &[LOG, META]).expect("sound");
        assert_eq!(keys(&journal, LOG), (0..10).collect::<Vec<_>>(), "{missing:b}");
    }
}

#[test]
fn a_file_that_ends_within_the_last_frame_was_being_written() {
    for cut in [1, 40, 100, 500, 1000, 3000] {
        let (dir, last) = ten(3000);
        let file = segments(dir.path()).pop().expect("a segment");
        OpenOptions::new()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_len((last.end - 40 - cut) as u64))
            .expect("cut");
        let journal = Journal::open(dir.path(), &[LOG, META]).expect("a torn end is cut");
        assert_eq!(keys(&journal, LOG), (0..9).collect::<Vec<_>>(), "{cut}");
    }
}

#[test]
fn a_bit_turned_anywhere_in_what_was_written_is_damage_that_names_the_file() {
    let (whole, last) = ten(40);
    let file = segments(whole.path()).pop().expect("a segment");
    let content = fs::read(&file).expect("readable");
    for at in 0..last.end {
        let mut spoiled = content.clone();
        spoiled[at] ^= 4;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join(file.file_name().expect("a name"));
        fs::write(&path, &spoiled).expect("written");
        match Journal::open(dir.path(), &[LOG, META]) {
            Err(error) => {
                assert!(error.is_damage(), "byte {at}: {error}");
                assert!(error.to_string().contains(&path.display().to_string()), "byte {at}: {error}");
            }
            // Between a frame's rows and the next frame, and within a header, there are bytes that mean nothing.
            Ok(journal) => assert_eq!(keys(&journal, LOG).len(), 10, "byte {at}"),
        }
    }
}

#[test]
fn a_value_that_spoils_while_the_journal_is_open_is_not_given_out() {
    let (dir, _) = ten(2000);
    let journal = Journal::open(dir.path(), &[LOG, META]).expect("sound");
    let file = segments(dir.path()).pop().expect("a segment");
    let file = OpenOptions::new().write(true).open(&file).expect("there");
    file.write_all_at(b"x", 1000).expect("spoiled");
    let error = journal.get(LOG, &0_u64.to_be_bytes()).expect_err("damaged");
    assert!(error.is_damage(), "{error}");
    let mut cursor = journal.cursor(LOG).expect("the space exists");
    cursor.seek(&[]);
    assert_eq!(cursor.entry(), None);
    assert!(cursor.status().expect_err("damaged").is_damage());
}

#[test]
fn a_segment_that_is_missing_is_noticed_unless_it_is_the_oldest() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let journal = open(dir.path()).expect("a fresh folder");
    (0..200).for_each(|key| put(&journal, LOG, key, &[b'v'; 100]));
    drop(journal);
    let middle = segments(dir.path()).swap_remove(1);
    fs::remove_file(middle).expect("removed");
    let error = open(dir.path()).expect_err("a gap");
    assert!(error.is_damage(), "{error}");
}

#[test]
fn a_segment_that_claims_a_number_to_which_nothing_counts_is_damaged() {
    for (number, first) in [(1, u64::MAX), (1, u64::MAX - 1), (u64::MAX, 1)] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let segment = Segment::create(dir.path(), number, first).expect("a fresh folder");
        let (mut frame, row) = (Vec::new(), Write::Put(LOG, vec![0; 8].into(), vec![b'v'; 5_000].into()));
        frame::encode(&mut frame, segment.salt(), first, &[row]).expect("small");
        segment.write(&frame, segment::HEADER_BYTES as u64).expect("written");
        let written = open(dir.path()).map(|journal| put(&journal, LOG, 1, b"v"));
        assert!(written.as_ref().is_err_and(EngineError::is_damage), "{number} {first}: {written:?}");
    }
}

#[test]
fn a_folder_of_another_engine_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(crate::Engine::open(dir.path(), &[LOG], &crate::Options::default()).expect("a fresh folder"));
    assert!(matches!(open(dir.path()), Err(EngineError::Layout(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_file_makes_the_reader_panic(content in vec(any::<u8>(), 0..2000), at in 0_usize..2000) {
        let (dir, _) = ten(10);
        let file = segments(dir.path()).pop().expect("a segment");
        let mut bytes = fs::read(&file).expect("readable");
        bytes.truncate(at.max(64));
        bytes.extend(content);
        fs::write(&file, &bytes).expect("written");
        if let Ok(journal) = Journal::open(dir.path(), &[LOG, META]) {
            prop_assert!(keys(&journal, LOG).len() <= 10);
        }
    }
}
