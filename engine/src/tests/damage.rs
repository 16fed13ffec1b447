//! Real files, spoiled: what is damaged is said to be, with the file's name, and is never passed over.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{A, B, images::flip};
use crate::*;

const KEYS: u32 = 2000;

/// An engine's folder with so many keys in one table, and in the write-ahead log if it is not flushed.
fn filled(flushed: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::open(dir.path(), &[A, B], &Options::default()).expect("a fresh folder");
    for key in 0..KEYS {
        let mut batch = Batch::new();
        batch.put(A, key.to_be_bytes().to_vec(), vec![b'v'; 100]);
        engine.write(batch, Durability::Buffered).expect("written");
    }
    if flushed {
        engine.reclaim(&[A]).expect("flushed");
    }
    engine.sync().expect("synced");
    drop(engine);
    dir
}

fn files(dir: &tempfile::TempDir, starts: &str, ends: &str) -> Vec<PathBuf> {
    let named = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("text");
        name.starts_with(starts) && name.ends_with(ends)
    };
    let mut files: Vec<_> = fs::read_dir(dir).expect("there").map(|entry| entry.expect("readable").path()).collect();
    files.retain(named);
    files.sort_by_key(|path| fs::metadata(path).expect("there").len());
    files
}

fn open(dir: &tempfile::TempDir) -> Result<Engine, EngineError> {
    Engine::open(dir.path(), &[A, B], &Options::default())
}

/// Reads every key in both ways, until one of them meets a fault.
fn read_all(engine: &Engine) -> Result<u32, EngineError> {
    let mut keys = 0;
    for key in 0..KEYS {
        keys += u32::from(engine.get(A, &key.to_be_bytes())?.is_some());
    }
    engine.walk(A, |_, _| Ok::<_, EngineError>(()))?;
    Ok(keys)
}

fn expect_damage(dir: &tempfile::TempDir, file: &Path, what: &str) {
    let name = file.file_name().and_then(|name| name.to_str()).expect("text");
    match open(dir).and_then(|engine| read_all(&engine)) {
        Err(error) => {
            assert!(error.is_damage(), "{what}: {error}");
            assert!(error.to_string().contains(name), "{what} does not name {name}: {error}");
        }
        Ok(keys) => panic!("{what}: nothing was noticed, {keys} keys"),
    }
}

#[test]
fn a_table_with_a_byte_turned_is_noticed_wherever_it_is() {
    let bytes = {
        let dir = filled(true);
        fs::metadata(files(&dir, "", ".sst").pop().expect("a table")).expect("there").len()
    };
    for part in 0..16 {
        let dir = filled(true);
        let table = files(&dir, "", ".sst").pop().expect("a table");
        let at = (bytes - 1) * part / 15;
        flip(&table, at);
        let outcome = open(&dir).and_then(|engine| read_all(&engine));
        match outcome {
            Err(error) => assert!(error.is_damage(), "byte {at} of {bytes}: {error}"),
            // Statistics of a table are not needed to read it.
            Ok(keys) => assert_eq!(keys, KEYS, "byte {at} of {bytes}"),
        }
    }
}

#[test]
fn a_data_block_with_a_byte_turned_names_its_file() {
    let dir = filled(true);
    let table = files(&dir, "", ".sst").pop().expect("a table");
    flip(&table, 50);
    expect_damage(&dir, &table, "a data block");
}

#[test]
fn a_table_that_is_gone_or_cut_short_is_noticed() {
    let dir = filled(true);
    let table = files(&dir, "", ".sst").pop().expect("a table");
    let whole = fs::read(&table).expect("readable");
    fs::write(&table, &whole[..whole.len() / 2]).expect("cut");
    expect_damage(&dir, &table, "a table cut short");
    fs::remove_file(&table).expect("removed");
    expect_damage(&dir, &table, "a table that is gone");
}

#[test]
fn a_manifest_with_a_byte_turned_is_noticed() {
    let dir = filled(true);
    let manifest = files(&dir, "MANIFEST", "").pop().expect("a manifest");
    flip(&manifest, 30);
    let error = open(&dir).expect_err("damaged");
    assert!(error.is_damage(), "{error}");
}

#[test]
fn a_torn_tail_of_the_log_is_cut_and_damage_before_it_is_not() {
    let whole = {
        let dir = filled(false);
        let log = files(&dir, "", ".log").pop().expect("a log");
        fs::metadata(log).expect("there").len()
    };
    for cut in [1, 7, 60, 121] {
        let dir = filled(false);
        let log = files(&dir, "", ".log").pop().expect("a log");
        let file = fs::OpenOptions::new().write(true).open(&log).expect("there");
        file.set_len(whole - cut).expect("cut");
        let keys = open(&dir).and_then(|engine| read_all(&engine)).expect("a torn tail is cut");
        assert!((KEYS - 3..KEYS).contains(&keys), "{cut} bytes cut: {keys} keys");
    }
    for part in 0..8 {
        let dir = filled(false);
        let log = files(&dir, "", ".log").pop().expect("a log");
        let at = whole * part / 10 + 3;
        flip(&log, at);
        let error = open(&dir).and_then(|engine| read_all(&engine)).expect_err("damaged");
        assert!(error.is_damage(), "byte {at} of {whole}: {error}");
        let name = log.file_name().and_then(|name| name.to_str()).expect("text");
        assert!(error.to_string().contains(name), "byte {at} of {whole}: {error}");
    }
}
