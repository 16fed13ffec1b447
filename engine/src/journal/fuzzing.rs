//! Journals that somebody has changed, with checksums that hide it.

use std::{fs, sync::LazyLock};

use super::*;

const LOG: Space = Space::new("log");
const META: Space = Space::new("meta");
/// Small, so that the sample has several segments.
const SEGMENT_BYTES: u64 = 512;
/// Bytes of one change: two for the place, one for what is there.
const CHANGE_BYTES: usize = 3;

type Rows = Vec<(Space, Vec<u8>, Vec<u8>)>;

/// The files of a journal, each with its name: rows that are put, replaced, deleted one by one and in ranges.
static SAMPLE: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let journal = open(dir.path()).expect("a fresh folder");
    for key in 0_u8..20 {
        let mut batch = Batch::new();
        batch.put(LOG, vec![key], vec![key + 1; 40]);
        match key % 5 {
            1 => batch.put(META, vec![key % 3], vec![key; 8]),
            2 => batch.delete(LOG, vec![key / 2]),
            3 => batch.delete_range(LOG, vec![key / 3], vec![key / 2]),
            _ => {}
        }
        journal.write(batch).expect("written");
    }
    let numbers = Segment::numbers(dir.path()).expect("readable");
    let names = numbers.into_iter().map(|number| format!("{number:016x}.journal"));
    names.map(|name| (name.clone(), filled(fs::read(dir.path().join(name)).expect("readable")))).collect()
});

/// A segment without the zeros that stand where frames were to come.
fn filled(mut content: Vec<u8>) -> Vec<u8> {
    let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    content.truncate(end.next_multiple_of(frame::ALIGNMENT));
    content
}

fn open(dir: &Path) -> Result<Journal, EngineError> {
    Journal::with_segments(dir, &[LOG, META], SEGMENT_BYTES)
}

/// Opens a journal that was whole until `bytes` changed it: a byte for whether the checksums are made right afterwards, and
/// three for each change. It is refused as damaged, or it opens, is read, takes another row, and has the same rows the
/// next time.
///
/// # Panics
/// If not.
pub fn journal(bytes: &[u8]) {
    let Some((repair, changes)) = bytes.split_first() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let total: usize = SAMPLE.iter().map(|(_, content)| content.len()).sum();
    let mut files = SAMPLE.clone();
    for change in changes.chunks_exact(CHANGE_BYTES) {
        let mut place = usize::from(u16::from_be_bytes([change[0], change[1]])) % total;
        for (_, content) in &mut files {
            match content.get_mut(place) {
                Some(byte) => {
                    *byte = change[2];
                    break;
                }
                None => place -= content.len(),
            }
        }
    }
    for (name, content) in &mut files {
        if repair % 2 == 1 {
            seal(content);
        }
        fs::write(dir.path().join(name), content).expect("written");
    }
    let journal = match open(dir.path()) {
        Ok(journal) => journal,
        Err(error) => return assert!(error.is_damage(), "{error}"),
    };
    let mut batch = Batch::new();
    batch.put(META, b"after".to_vec(), b"all".to_vec());
    journal.write(batch).expect("it was opened");
    let rows = rows(&journal);
    drop(journal);
    assert_eq!(self::rows(&open(dir.path()).expect("it was opened before")), rows);
}

fn rows(journal: &Journal) -> Rows {
    let mut rows = Vec::new();
    for space in [LOG, META] {
        let mut cursor = journal.cursor(space).expect("the space exists");
        cursor.seek(&[]);
        while let Some((key, value)) = cursor.entry() {
            rows.push((space, key.to_vec(), value.to_vec()));
            cursor.next();
        }
        cursor.status().expect("what was opened is whole");
    }
    rows
}

/// Makes the checksums of a segment right, for as many frames as follow each other.
fn seal(content: &mut [u8]) {
    segment::seal(content);
    let mut at = segment::HEADER_BYTES;
    while let Some(length) = content.get_mut(at..).and_then(frame::seal) {
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn the_sample_is_whole_and_of_several_segments() {
        assert!(SAMPLE.len() > 2, "{}", SAMPLE.len());
        journal(&[0]);
        journal(&[1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_changed_journal_is_opened_or_damaged(repair: u8, changes in vec(any::<[u8; CHANGE_BYTES]>(), 0..6)) {
            journal(&[&[repair][..], &changes.concat()].concat());
        }
    }
}
