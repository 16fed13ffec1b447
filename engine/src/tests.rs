//! All engines answer alike, and those on disk remember.

mod damage;
mod images;

use proptest::{collection::vec, prelude::*};

use super::*;

const A: Space = Space::new("a");
const B: Space = Space::new("b");

#[derive(Clone, Debug)]
enum Step {
    Put(bool, u8, u8),
    Delete(bool, u8),
    DeleteRange(bool, u8, u8),
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<(bool, u8, u8)>().prop_map(|(space, key, value)| Step::Put(space, key, value)),
        2 => any::<(bool, u8)>().prop_map(|(space, key)| Step::Delete(space, key)),
        1 => any::<(bool, u8, u8)>().prop_map(|(space, from, to)| Step::DeleteRange(space, from, to)),
        1 => Just(Step::Reopen),
    ]
}

fn space(first: bool) -> Space {
    if first { A } else { B }
}

fn batch(step: &Step) -> Batch {
    let mut batch = Batch::new();
    match *step {
        Step::Put(first, key, value) => batch.put(space(first), vec![key], vec![value]),
        Step::Delete(first, key) => batch.delete(space(first), vec![key]),
        Step::DeleteRange(first, from, to) => batch.delete_range(space(first), vec![from], vec![to]),
        Step::Reopen => {}
    }
    batch
}

fn open(dir: &Path) -> Engine {
    Engine::open(dir, &[A, B], &Options::default()).expect("a fresh folder opens")
}

fn journal(dir: &Path) -> Engine {
    Engine::journal(dir, &[A, B]).expect("a fresh folder opens")
}

fn forward(engine: &Engine, space: Space, from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = engine.cursor(space).expect("the space exists");
    let mut entries = Vec::new();
    cursor.seek(from);
    while let Some((key, value)) = cursor.entry() {
        entries.push((key.to_vec(), value.to_vec()));
        cursor.next();
    }
    cursor.status().expect("the disk is sound");
    entries
}

fn backward(engine: &Engine, space: Space, from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = engine.cursor(space).expect("the space exists");
    let mut entries = Vec::new();
    cursor.seek_back(from);
    while let Some((key, value)) = cursor.entry() {
        entries.push((key.to_vec(), value.to_vec()));
        cursor.previous();
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn disks_and_memory_answer_alike(steps in vec(any_step(), 1..60), from in any::<u8>()) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let log = dir.path().join("journal");
        let (mut disk, mut logged, memory) = (open(dir.path()), journal(&log), Engine::in_memory(&[A, B]));
        for step in &steps {
            if matches!(step, Step::Reopen) {
                drop((disk, logged));
                (disk, logged) = (open(dir.path()), journal(&log));
            }
            for engine in [&disk, &logged, &memory] {
                engine.write(batch(step), Durability::Buffered).expect("written");
            }
        }
        for (space, engine) in [(A, &disk), (B, &disk), (A, &logged), (B, &logged)] {
            prop_assert_eq!(forward(engine, space, &[from]), forward(&memory, space, &[from]));
            prop_assert_eq!(backward(engine, space, &[from]), backward(&memory, space, &[from]));
            prop_assert_eq!(engine.get(space, &[from]).expect("read"), memory.get(space, &[from]).expect("read"));
        }
    }
}

#[test]
fn a_cursor_keeps_the_view_of_its_start() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for engine in [open(dir.path()), journal(&dir.path().join("journal")), Engine::in_memory(&[A, B])] {
        engine.write(batch(&Step::Put(true, 1, 1)), Durability::Synced).expect("written");
        let mut cursor = engine.cursor(A).expect("the space exists");
        engine.write(batch(&Step::Put(true, 1, 2)), Durability::Synced).expect("written");
        cursor.seek(&[]);
        assert_eq!(cursor.entry(), Some((&[1][..], &[1][..])));
        cursor.next();
        cursor.next();
        assert_eq!(cursor.entry(), None);
    }
}

#[test]
fn a_batch_of_an_unknown_space_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for engine in [open(dir.path()), journal(&dir.path().join("journal")), Engine::in_memory(&[A, B])] {
        let mut batch = batch(&Step::Put(true, 1, 1));
        batch.put(Space::new("elsewhere"), "k", "v");
        assert!(matches!(engine.write(batch, Durability::Buffered), Err(EngineError::UnknownSpace(_))));
        assert_eq!(engine.get(A, &[1]).expect("read"), None);
    }
}

#[test]
fn what_is_pinned_is_one_moment_of_all_spaces() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for engine in [open(dir.path()), journal(&dir.path().join("journal")), Engine::in_memory(&[A, B])] {
        let set = |value: u8| {
            let mut batch = Batch::new();
            for space in [A, B] {
                batch.put(space, vec![1], vec![value]);
            }
            engine.write(batch, Durability::Buffered).expect("written");
        };
        set(1);
        let pinned = engine.pin();
        set(2);
        for space in [A, B] {
            assert_eq!(pinned.get(space, &[1]).expect("read").as_deref(), Some(&[1][..]));
            let mut cursor = pinned.cursor(space).expect("the space exists");
            cursor.seek(&[]);
            assert_eq!(cursor.entry(), Some((&[1][..], &[1][..])));
            assert_eq!(engine.get(space, &[1]).expect("read").as_deref(), Some(&[2][..]));
        }
    }
}

#[test]
fn what_is_overwritten_and_deleted_is_no_more_counted_once_it_is_reclaimed() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for engine in [open(dir.path()), journal(&dir.path().join("journal")), Engine::in_memory(&[A, B])] {
        let write = |value: u8| {
            let mut batch = Batch::new();
            (0..64).for_each(|key| batch.put(A, vec![key], vec![value; 64 << 10]));
            engine.write(batch, Durability::Buffered).expect("written");
        };
        let empty = engine.live_bytes(&[A]).expect("counted");
        (0..4).for_each(write);
        let full = engine.live_bytes(&[A]).expect("counted");
        assert!(full - empty >= 4 << 20, "{full}");
        assert!(engine.live_bytes(&[B]).expect("counted") <= empty);
        let mut batch = Batch::new();
        batch.delete_range(A, vec![0], vec![255]);
        engine.write(batch, Durability::Buffered).expect("written");
        engine.reclaim(&[A]).expect("reclaimed");
        let rest = engine.live_bytes(&[A]).expect("counted");
        assert!(rest < 64 << 10, "{rest}");
    }
}
