//! What the fuzz targets in `fuzz/` call, and the tests too.
//!
//! - Whatever the bytes are, nothing panics unless what reads them is wrong.

use std::fmt::Debug;

use bytes::{Buf, Bytes};
use engine::{Batch, Durability, Engine};
use prost::Message;
use proto::peer as pb;

use crate::{
    ClusterId, Config, MemberId,
    codec::{self, Damage},
    log,
    peer::{Offer, wire},
    types::{COUNT_MAX, log_id},
};

/// A record with the checksum that it needs to be looked into.
fn sealed(bytes: &[u8]) -> Bytes {
    [bytes, &crc32fast::hash(bytes).to_be_bytes()].concat().into()
}

/// Reads `bytes`, with a checksum that is right, as every kind of record: it is an error, or a value that is written as the
/// record was, or as one of the present format that says the same.
///
/// # Panics
/// If not.
pub fn records(bytes: &[u8]) {
    let record = sealed(bytes);
    same(&record, codec::decode_entry, codec::encode_entry);
    same(&record, codec::decode_proposal, codec::encode_proposal);
    same(&record, codec::decode_vote, codec::encode_vote);
    same(&record, codec::decode_log_id, codec::encode_log_id);
    same(&record, codec::decode_identity, codec::encode_identity);
    same(&record, codec::decode_sessions, codec::encode_sessions);
    same(&record, codec::decode_disk, codec::encode_disk);
    same(&record, codec::decode_known, codec::encode_known);
    same(&record, codec::decode_record, codec::encode_record);
}

fn same<T: Debug + PartialEq>(record: &Bytes, decode: fn(Bytes) -> Result<T, Damage>, encode: fn(&T) -> Bytes) {
    let Ok(value) = decode(record.clone()) else { return };
    let again = encode(&value);
    if record[0] == codec::FORMAT {
        assert_eq!(again, *record);
    }
    assert_eq!(decode(again), Ok(value));
}

/// Reads `bytes` as each message of another member's; the records in it are given the checksums that they need. What
/// is to be appended follows each other.
///
/// # Panics
/// If it does not, or if it does not survive being sent again.
pub fn messages(bytes: &[u8]) {
    if let Ok(mut request) = pb::AppendRequest::decode(bytes) {
        request.entries.iter_mut().for_each(|entry| *entry = sealed(entry));
        if let Ok(request) = wire::append_in(request) {
            let mut last = request.prev_log_id;
            for entry in &request.entries {
                assert!(last < Some(entry.log_id));
                assert_eq!(last.map_or(0, |last| last.index + 1), entry.log_id.index);
                last = Some(entry.log_id);
            }
            let again = wire::append_in(wire::append_out(None, &request)).expect("it was taken once");
            assert_eq!((&again.entries, again.prev_log_id), (&request.entries, request.prev_log_id));
        }
    }
    if let Ok(mut offer) = pb::ImageOffer::decode(bytes) {
        offer.record = sealed(&offer.record);
        let _refusal = Offer::read(offer).err();
    }
    // A wrong message is as good an answer as any.
    let _vote = pb::VoteRequest::decode(bytes).map(|request| wire::vote_request_in(&request));
    let _voted = pb::VoteResponse::decode(bytes).map(wire::vote_response_in);
    let _appended = pb::AppendResponse::decode(bytes).map(wire::append_result_in);
    let _transfer = pb::TransferRequest::decode(bytes).map(|request| wire::transfer_in(&request));
    if let Ok(refusal) = pb::ChangeRefusal::decode(bytes) {
        let error = wire::refusal_in(refusal);
        assert_eq!(wire::refusal_in(wire::refusal_out(&error)), error);
    }
}

/// Starts on a log that holds what `bytes` say: one after another a byte for what it is, one for its length, and the record
/// without its checksum. What can be started on once can be again, unless that was as often as can be counted.
///
/// # Panics
/// If not.
pub fn log(bytes: &[u8]) {
    let engine = Engine::in_memory(log::SPACES);
    let mut batch = Batch::new();
    let mut rest = bytes;
    while rest.remaining() >= 2 {
        let (what, length) = (rest.get_u8(), usize::from(rest.get_u8()));
        let (record, after) = rest.split_at(length.min(rest.len()));
        log::put_record(&mut batch, what, sealed(record));
        rest = after;
    }
    engine.write(batch, Durability::Buffered).expect("memory does not fail");
    let config = Config::new(ClusterId(1), MemberId(1));
    for applied in [None, Some(log_id(1, 3))] {
        let Ok(first) = log::recover(&engine, &config, applied.as_ref()) else { continue };
        if first.own.disk.starts > COUNT_MAX {
            continue;
        }
        let again = log::recover(&engine, &config, applied.as_ref()).expect("it was read once");
        assert_eq!(again.own.disk.starts, first.own.disk.starts + 1);
        assert_eq!(again.known, first.known);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;
    use crate::{
        codec::{Identity, Sessions},
        life::{Disk, Known},
        types::{Entry, Vote},
    };

    /// A log of two entries after one that is purged: each record without its checksum, after what it is and its length.
    fn sample() -> Vec<u8> {
        let disk = Disk { incarnation: 7, starts: 1 };
        let blank = |index| Entry { log_id: log_id(2, index), payload: openraft::EntryPayload::Blank };
        let records = [
            (0, codec::encode_identity(&Identity { cluster: 1, member: 1, disk })),
            (1, codec::encode_vote(&Vote::new_committed(2, 1))),
            (2, codec::encode_log_id(&log_id(2, 4))),
            (3, codec::encode_log_id(&log_id(1, 3))),
            (4, codec::encode_disk(&disk)),
            (6, codec::encode_known(&Known { disk, session: 3, held: None })),
            (7, codec::encode_sessions(&Sessions { starts: 1, sessions: vec![9] })),
            (5, codec::encode_entry(&blank(4))),
            (5, codec::encode_entry(&blank(5))),
        ];
        let one = |(what, record): (u8, Bytes)| {
            let record = &record[..record.len() - size_of::<u32>()];
            [&[what, u8::try_from(record.len()).expect("short")], record].concat()
        };
        records.into_iter().flat_map(one).collect()
    }

    proptest! {
        #[test]
        fn any_bytes_are_records_messages_and_logs_or_none(bytes in vec(any::<u8>(), 0..200)) {
            records(&bytes);
            messages(&bytes);
            log(&bytes);
        }

        #[test]
        fn a_damaged_log_is_one_to_start_on_or_none(damage in vec((any::<Index>(), any::<u8>()), 0..4)) {
            let mut bytes = sample();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            log(&bytes);
        }
    }
}
