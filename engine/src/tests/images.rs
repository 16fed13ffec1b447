//! An engine is copied to another home and takes the place of what lives there.

use std::{fs, os::unix::fs::FileExt, path::Path};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;

use super::{A, B, Step, any_step, batch, forward};
use crate::*;

/// A home in a folder of its own, or in memory.
struct Place {
    dir: Option<TempDir>,
    home: Home,
}

impl Place {
    fn on_disk() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self { home: open(dir.path()), dir: Some(dir) }
    }

    fn both() -> [Self; 2] {
        [Self::on_disk(), Self { dir: None, home: Home::in_memory(&[A, B]) }]
    }

    fn path(&self) -> &Path {
        self.dir.as_ref().expect("it is on disk").path()
    }

    /// The home after the process has ended and started again; the twin forgets nothing but what a start would sweep.
    fn reopen(self) -> Self {
        let Self { dir, home } = self;
        match dir {
            None => Self { dir, home },
            Some(dir) => {
                drop(home);
                Self { home: open(dir.path()), dir: Some(dir) }
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("readable");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("readable").file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().expect("text")).collect()
    }
}

fn open(dir: &Path) -> Home {
    Home::open(dir, &[A, B], &Options::default()).expect("a free folder")
}

fn put(engine: &Engine, key: u8, value: u8) {
    engine.write(batch(&Step::Put(true, key, value)), Durability::Buffered).expect("written");
}

fn value(engine: &Engine, key: u8) -> Option<Bytes> {
    engine.get(A, &[key]).expect("readable")
}

/// Copies what is missing, in pieces, up to so many of them; whether that was all.
fn copy(image: &Image, incoming: &mut Incoming, pieces_max: usize) -> bool {
    let mut pieces = 0;
    for (number, part) in image.parts().iter().enumerate() {
        loop {
            let held = incoming.held(part);
            if held == part.bytes {
                break;
            }
            if pieces == pieces_max {
                return false;
            }
            pieces += 1;
            let piece = image.read(number, held, 700).expect("readable");
            incoming.write(part, held, &piece).expect("writable");
        }
    }
    true
}

fn collect(image: &Image, home: &Home) -> Incoming {
    let mut incoming = home.collect(image.id()).expect("an id");
    assert!(copy(image, &mut incoming, usize::MAX));
    incoming.finish(image.parts()).expect("it is whole");
    incoming
}

#[test]
fn an_image_takes_the_place_of_what_was_there_and_readers_of_that_go_on() {
    for (from, to) in Place::both().into_iter().zip(Place::both()) {
        put(&from.home.engine(), 1, 1);
        let image = from.home.image().expect("made");
        put(&from.home.engine(), 1, 2);

        let before = to.home.engine();
        put(&before, 7, 7);
        let mut cursor = before.cursor(A).expect("the space exists");
        let adopted = to.home.adopt(&collect(&image, &to.home)).expect("adopted");
        assert_eq!((value(&adopted, 1), value(&adopted, 7)), (Some(vec![1].into()), None));
        assert_eq!(value(&to.home.engine(), 1), Some(vec![1].into()));
        cursor.seek(&[]);
        assert_eq!(cursor.entry(), Some((&[7][..], &[7][..])));
        assert_eq!(value(&before, 7), Some(vec![7].into()));
        put(&adopted, 2, 2);
    }
}

#[test]
fn what_was_adopted_is_there_after_a_restart_and_nothing_else_is() {
    let (from, to) = (Place::on_disk(), Place::on_disk());
    put(&from.home.engine(), 1, 1);
    let before = to.home.engine();
    put(&before, 7, 7);
    let image = from.home.image().expect("made");
    let adopted = to.home.adopt(&collect(&image, &to.home)).expect("adopted");
    put(&adopted, 2, 2);
    assert_eq!(to.names(), ["db-1", "db-2", "incoming", "lock"]);
    drop((before, adopted));
    assert_eq!(to.names(), ["db-2", "incoming", "lock"], "the old one goes with its last reader");
    let to = to.reopen();
    let engine = to.home.engine();
    assert_eq!([1, 2, 7].map(|key| value(&engine, key).is_some()), [true, true, false]);
}

#[test]
fn a_crash_after_the_new_one_has_its_name_leaves_the_new_one() {
    let (from, to) = (Place::on_disk(), Place::on_disk());
    put(&from.home.engine(), 1, 1);
    put(&to.home.engine(), 7, 7);
    let image = from.home.image().expect("made");
    drop(collect(&image, &to.home));
    // What `adopt` does up to its rename, and no further.
    fs::rename(to.path().join("incoming").join(image.id()), to.path().join("db-2")).expect("renamed");
    let to = to.reopen();
    assert_eq!(value(&to.home.engine(), 1), Some(vec![1].into()));
    assert_eq!(value(&to.home.engine(), 7), None);
    assert_eq!(to.names(), ["db-2", "incoming", "lock"]);
}

#[test]
fn a_crash_before_that_leaves_the_old_one_and_what_has_come_is_not_sent_again() {
    for (from, to) in Place::both().into_iter().zip(Place::both()) {
        (0..200).for_each(|key| put(&from.home.engine(), key, key));
        put(&to.home.engine(), 7, 9);
        let image = from.home.image().expect("made");
        let mut incoming = to.home.collect(image.id()).expect("an id");
        assert!(!copy(&image, &mut incoming, 3));
        let held: u64 = image.parts().iter().map(|part| incoming.held(part)).sum();
        drop(incoming);

        let to = to.reopen();
        assert_eq!(value(&to.home.engine(), 7), Some(vec![9].into()));
        let incoming = to.home.collect(image.id()).expect("an id");
        assert!(held > 0);
        assert_eq!(image.parts().iter().map(|part| incoming.held(part)).sum::<u64>(), held);
        to.home.adopt(&collect(&image, &to.home)).expect("adopted");
        assert_eq!(value(&to.home.engine(), 7), Some(vec![7].into()));
    }
}

#[test]
fn what_came_of_another_image_goes_when_one_comes_in() {
    for (from, to) in Place::both().into_iter().zip(Place::both()) {
        put(&from.home.engine(), 1, 1);
        let (old, new) = (from.home.image().expect("made"), from.home.image().expect("made"));
        assert_ne!(old.id(), new.id());
        let mut incoming = to.home.collect(old.id()).expect("an id");
        copy(&old, &mut incoming, usize::MAX);
        let incoming = to.home.collect(new.id()).expect("an id");
        assert!(new.parts().iter().all(|part| incoming.held(part) == 0));
        let incoming = to.home.collect(old.id()).expect("an id");
        assert!(old.parts().iter().all(|part| incoming.held(part) == 0));
    }
}

#[test]
fn an_image_goes_when_it_is_dropped_and_those_a_crash_has_left_at_the_start() {
    let place = Place::on_disk();
    put(&place.home.engine(), 1, 1);
    let images = || fs::read_dir(place.path().join("images")).expect("there").count();
    let image = place.home.image().expect("made");
    assert_eq!(images(), 1);
    drop(image);
    assert_eq!(images(), 0);
    std::mem::forget(place.home.image().expect("made"));
    let place = place.reopen();
    assert_eq!(place.names(), ["db-1", "lock"]);
}

#[test]
fn what_is_not_whole_is_not_adopted_and_a_part_that_differs_is_to_be_sent_again() {
    let (from, to) = (Place::on_disk(), Place::on_disk());
    (0..200).for_each(|key| put(&from.home.engine(), key, key));
    let image = from.home.image().expect("made");
    let mut incoming = to.home.collect(image.id()).expect("an id");
    assert!(!copy(&image, &mut incoming, 2));
    assert!(matches!(incoming.finish(image.parts()), Err(EngineError::Image { .. })));
    assert!(to.home.adopt(&incoming).is_err());

    assert!(copy(&image, &mut incoming, usize::MAX));
    let table = table(&image);
    flip(&to.path().join("incoming").join(image.id()).join(&table.name), table.bytes / 2);
    let error = incoming.finish(image.parts()).expect_err("damaged");
    assert!(matches!(&error, EngineError::Image { part, .. } if *part == table.name), "{error}");
    assert_eq!(incoming.held(table), 0);
    assert!(to.home.adopt(&incoming).is_err());
    assert!(copy(&image, &mut incoming, usize::MAX));
    incoming.finish(image.parts()).expect("it is whole now");
    to.home.adopt(&incoming).expect("adopted");
}

#[test]
fn what_was_damaged_where_it_came_from_is_not_adopted() {
    let (from, to) = (Place::on_disk(), Place::on_disk());
    (0..200).for_each(|key| put(&from.home.engine(), key, key));
    let image = from.home.image().expect("made");
    let table = table(&image);
    flip(&from.path().join("images").join(image.id()).join(&table.name), 10);
    let mut incoming = to.home.collect(image.id()).expect("an id");
    copy(&image, &mut incoming, usize::MAX);
    let error = incoming.finish(image.parts()).expect_err("damaged");
    assert!(matches!(&error, EngineError::Image { .. }), "{error}");
    assert!(error.to_string().contains(&table.name), "{error}");
    assert!(to.home.adopt(&incoming).is_err());
}

#[test]
fn names_that_lead_elsewhere_and_bytes_without_a_place_are_refused() {
    for place in Place::both() {
        for id in ["", ".", "..", "../x", "a/b", "a\0", &"x".repeat(200)] {
            assert!(place.home.collect(id).is_err(), "{id:?}");
        }
        let mut incoming = place.home.collect("x").expect("an id");
        for name in ["", "..", "../../x", "/x", ".hidden"] {
            let part = Part { name: name.to_owned(), bytes: 4 };
            assert!(incoming.write(&part, 0, b"data").is_err(), "{name:?}");
            assert_eq!(incoming.held(&part), 0);
        }
        let part = Part { name: "p".to_owned(), bytes: 4 };
        assert!(incoming.write(&part, 1, b"x").is_err(), "a hole");
        assert!(incoming.write(&part, 0, b"12345").is_err(), "too long");
        assert!(incoming.write(&part, u64::MAX, b"1").is_err(), "nowhere");
        incoming.write(&part, 0, b"12").expect("its start");
        incoming.write(&part, 1, b"34").expect("over what is held");
        assert_eq!(incoming.held(&part), 3);
        assert!(incoming.finish(&[part]).is_err(), "no checksums");
        assert!(incoming.finish(&[]).is_err(), "nothing at all");
    }
}

#[test]
fn a_home_is_one_process_s_and_no_engine_s_own_folder() {
    let place = Place::on_disk();
    let again = Home::open(place.path(), &[A, B], &Options::default());
    assert!(matches!(again, Err(EngineError::InUse(_))), "{again:?}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(Engine::open(dir.path(), &[A, B], &Options::default()).expect("a fresh folder"));
    let flat = Home::open(dir.path(), &[A, B], &Options::default());
    assert!(matches!(flat, Err(EngineError::Layout(_))), "{flat:?}");
}

#[test]
fn an_image_of_a_newer_version_is_refused_and_one_of_an_older_is_not() {
    let (dir, older) = (tempfile::tempdir().expect("a temporary folder"), tempfile::tempdir().expect("another"));
    let newer = Home::open(dir.path(), &[A, B, Space::new("c")], &Options::default()).expect("a free folder");
    let older = Home::open(older.path(), &[A], &Options::default()).expect("a free folder");
    let place = Place::on_disk();
    let image = newer.image().expect("made");
    let mut incoming = place.home.collect(image.id()).expect("an id");
    copy(&image, &mut incoming, usize::MAX);
    let error = incoming.finish(image.parts()).expect_err("of a newer version");
    assert!(error.to_string().contains("newer version"), "{error}");
    let adopted = place.home.adopt(&collect(&older.image().expect("made"), &place.home)).expect("adopted");
    adopted.write(batch(&Step::Put(false, 1, 1)), Durability::Buffered).expect("space b was made");
}

/// A part with data in it.
fn table(image: &Image) -> &Part {
    let is_table = |part: &&Part| Path::new(&part.name).extension().is_some_and(|extension| extension == "sst");
    image.parts().iter().find(is_table).expect("a table")
}

/// Turns one byte of a file round.
pub(super) fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("within the file");
    file.write_all_at(&[!byte[0]], at).expect("written");
}

fn contents(engine: &Engine) -> [Vec<(Vec<u8>, Vec<u8>)>; 2] {
    [A, B].map(|space| forward(engine, space, &[]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn an_image_is_what_was_there_when_it_was_made(
        before in vec(any_step(), 1..40), after in vec(any_step(), 0..20), elsewhere in vec(any_step(), 0..20),
    ) {
        for (from, to) in Place::both().into_iter().zip(Place::both()) {
            let write = |place: &Place, steps: &[Step]| {
                let engine = place.home.engine();
                for step in steps {
                    engine.write(batch(step), Durability::Buffered).expect("written");
                }
            };
            write(&from, &before);
            write(&to, &elsewhere);
            let (expected, image) = (contents(&from.home.engine()), from.home.image().expect("made"));
            write(&from, &after);
            to.home.adopt(&collect(&image, &to.home)).expect("adopted");
            prop_assert_eq!(&contents(&to.home.engine()), &expected);
            let to = to.reopen();
            prop_assert_eq!(&contents(&to.home.engine()), &expected);
        }
    }
}
