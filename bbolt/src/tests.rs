//! What is written is read, and nothing that is read does harm.

use std::{collections::BTreeMap, io::Cursor};

use proptest::{collection::btree_map, collection::vec, prelude::*, sample::Index};

use super::*;

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn write(buckets: &Buckets) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new())).expect("memory");
    for (name, entries) in buckets {
        let mut bucket = writer.bucket(name).expect("once");
        for (key, value) in entries {
            bucket.put(key, value).expect("in order");
        }
        bucket.finish().expect("memory");
    }
    let (file, bytes) = writer.finish().expect("memory");
    let file = file.into_inner();
    assert_eq!(file.len() as u64, bytes);
    file
}

fn read(file: &[u8]) -> Result<Buckets, Error> {
    let database = Database::open(file)?;
    let (mut buckets, mut names) = (Buckets::new(), database.root().entries()?);
    while let Some(entry) = names.next()? {
        let Content::Bucket(bucket) = entry.content else { continue };
        let name = entry.key.to_vec();
        let (mut values, mut entries) = (BTreeMap::new(), bucket.entries()?);
        while let Some(Entry { key, content: Content::Value(value) }) = entries.next()? {
            values.insert(key.to_vec(), value.to_vec());
        }
        buckets.insert(name, values);
    }
    Ok(buckets)
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![20 => vec(any::<u8>(), 1..20), 1 => vec(any::<u8>(), 1000..5000)]
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![20 => vec(any::<u8>(), 0..100), 1 => vec(any::<u8>(), 3000..20_000)]
}

fn any_buckets() -> impl Strategy<Value = Buckets> {
    btree_map(any_key(), btree_map(any_key(), any_value(), 0..200), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_is_read_as_it_was_written(buckets in any_buckets()) {
        let file = write(&buckets);
        prop_assert_eq!(&read(&file).expect("whole"), &buckets);
        let summary = check(&file[..]).expect("whole");
        let values: usize = buckets.values().map(BTreeMap::len).sum();
        prop_assert_eq!((summary.buckets, summary.values), (buckets.len() as u64, values as u64));
    }

    #[test]
    fn damage_is_an_error_or_other_values_and_never_more(
        buckets in any_buckets(), damage in vec((any::<Index>(), any::<u8>()), 1..8), cut in proptest::option::of(any::<Index>()),
    ) {
        let mut file = write(&buckets);
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let _ = check(&file[..]);
    }

    #[test]
    fn damage_of_the_tables_of_pages_does_no_harm_either(
        buckets in any_buckets(), damage in vec((any::<Index>(), 0..64_usize, any::<u8>()), 1..8),
    ) {
        let mut file = write(&buckets);
        for (page, at, byte) in damage {
            let page = 2 + page.index(file.len() / format::PAGE_BYTES - 2);
            file[page * format::PAGE_BYTES + at] = byte;
        }
        let _ = check(&file[..]);
    }
}

#[test]
fn many_keys_make_a_tree_of_several_levels() {
    let entries: BTreeMap<Vec<u8>, Vec<u8>> =
        (0..60_000_u32).map(|key| (key.to_be_bytes().to_vec(), vec![1; 20])).collect();
    let buckets = Buckets::from([(b"many".to_vec(), entries), (b"none".to_vec(), BTreeMap::new())]);
    assert_eq!(read(&write(&buckets)).expect("whole"), buckets);
}

#[test]
fn the_newer_meta_page_counts_and_one_is_enough() {
    let file = write(&Buckets::from([(b"key".to_vec(), BTreeMap::from([(b"a".to_vec(), b"b".to_vec())]))]));
    let expected = read(&file).expect("whole");
    for meta in [0, 1] {
        let mut damaged = file.clone();
        damaged[meta * format::PAGE_BYTES + 60] ^= 1;
        assert_eq!(read(&damaged).expect("the other one is whole"), expected);
        damaged[(1 - meta) * format::PAGE_BYTES + 60] ^= 1;
        assert!(matches!(read(&damaged), Err(Error::NotADatabase)));
    }
    let mut newer = file.clone();
    let nowhere = format::Meta { page_bytes: 4096, root: 99, freelist: 3, pages: 4, transaction: 7 };
    newer[format::PAGE_BYTES..][..format::Meta::SEEN_BYTES].copy_from_slice(&nowhere.encode());
    assert!(matches!(read(&newer), Err(Error::Damaged { page: 99, .. })));
}

#[test]
fn a_tree_that_bites_its_tail_is_damaged() {
    let entries: BTreeMap<Vec<u8>, Vec<u8>> =
        (0..1000_u32).map(|key| (key.to_be_bytes().to_vec(), vec![1; 20])).collect();
    let mut file = write(&Buckets::from([(b"many".to_vec(), entries)]));
    let database = Database::open(&file[..]).expect("whole");
    let bucket = database.bucket(b"many").expect("whole").expect("there");
    let root = usize::try_from(bucket.first_page().expect("not inline")).expect("few pages");
    let first_child = root * format::PAGE_BYTES + format::HEADER_BYTES + 8;
    file[first_child..][..8].copy_from_slice(&(root as u64).to_le_bytes());
    assert!(matches!(check(&file[..]), Err(Error::Damaged { .. })));
}

#[test]
fn what_bbolt_could_not_hold_is_refused() {
    let mut writer = Writer::new(Cursor::new(Vec::new())).expect("memory");
    let mut bucket = writer.bucket(b"b").expect("once");
    bucket.put(b"b", b"").expect("in order");
    for key in [b"a".to_vec(), b"b".to_vec(), Vec::new(), vec![b'c'; format::KEY_BYTES_MAX + 1]] {
        assert!(matches!(bucket.put(&key, b""), Err(Error::Unwritable(_))), "{} bytes", key.len());
    }
    bucket.finish().expect("memory");
    assert!(matches!(writer.bucket(b"b"), Err(Error::Unwritable(_))));
}

#[test]
fn a_file_that_is_none_is_refused() {
    for file in [&b""[..], b"not a database", &[0; 10_000]] {
        assert!(matches!(check(file), Err(Error::NotADatabase)));
    }
}
