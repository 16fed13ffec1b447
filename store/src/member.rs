//! Who belongs to the cluster, as people and clients know it.
//!
//! Owns: each member's name and addresses. Who votes is the raft room's.
//! In:   what a member tells of itself, and peer addresses that an operator changed, through the log.
//! Out:  the members, to whoever asks.
//!
//! - No two members have a peer address in common.
//! - A member's peer addresses are those that were told last by an operator, whatever it was started with.

use std::collections::BTreeMap;

use engine::Read;

use crate::{Refusal, StoreError, layout, varint};

/// One member. Source: etcd v3 `Member`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name among members.
    pub id: u64,
    /// Its name among people.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// What is to be known of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// The member tells of itself when it starts; peer addresses count only if none are known yet.
    Publish(Member),
    /// An operator has moved it. Source: etcd v3 `MemberUpdateRequest`.
    PeerUrls {
        /// Which member; [`Refusal::MemberNotFound`] if there is none.
        id: u64,
        /// Where other members reach it now; [`Refusal::PeerUrlExists`] if another member has one of them.
        peer_urls: Vec<String>,
    },
}

/// All members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members(BTreeMap<u64, Member>);

impl Members {
    pub(crate) fn load(engine: &impl Read) -> Result<Self, StoreError> {
        let mut members = BTreeMap::new();
        let mut cursor = engine.cursor(layout::MEMBERS)?;
        cursor.seek(&[]);
        while let Some((key, row)) = cursor.entry() {
            let member = Member::read(key, row);
            let member = member.ok_or_else(|| layout::corrupt(layout::MEMBERS, "a member has a name and addresses"))?;
            members.insert(member.id, member);
            cursor.next();
        }
        cursor.status()?;
        Ok(Self(members))
    }

    pub(crate) fn all(&self) -> Vec<Member> {
        self.0.values().cloned().collect()
    }

    /// Makes a change, and returns what the member is then.
    pub(crate) fn change(&mut self, change: MemberChange) -> Result<Member, Refusal> {
        let changed = match change {
            MemberChange::Publish(mut member) => {
                if let Some(known) = self.0.get(&member.id) {
                    member.peer_urls.clone_from(&known.peer_urls);
                }
                member
            }
            MemberChange::PeerUrls { id, peer_urls } => {
                let known = self.0.get(&id).ok_or(Refusal::MemberNotFound)?;
                Member { peer_urls, ..known.clone() }
            }
        };
        let mut others = self.0.values().filter(|other| other.id != changed.id).flat_map(|other| &other.peer_urls);
        if others.any(|url| changed.peer_urls.contains(url)) {
            return Err(Refusal::PeerUrlExists);
        }
        self.0.insert(changed.id, changed.clone());
        Ok(changed)
    }
}

impl Member {
    pub(crate) fn key(&self) -> Vec<u8> {
        self.id.to_be_bytes().to_vec()
    }

    pub(crate) fn row(&self) -> Vec<u8> {
        let mut row = Vec::new();
        put_text(&mut row, &self.name);
        put_texts(&mut row, &self.peer_urls);
        put_texts(&mut row, &self.client_urls);
        row
    }

    fn read(key: &[u8], mut row: &[u8]) -> Option<Self> {
        let id = u64::from_be_bytes(key.try_into().ok()?);
        let (name, peer_urls) = (take_text(&mut row)?, take_texts(&mut row)?);
        Some(Self { id, name, peer_urls, client_urls: take_texts(&mut row)? }).filter(|_| row.is_empty())
    }
}

fn put_text(row: &mut Vec<u8>, text: &str) {
    varint::put(row, text.len() as u64);
    row.extend_from_slice(text.as_bytes());
}

fn put_texts(row: &mut Vec<u8>, texts: &[String]) {
    varint::put(row, texts.len() as u64);
    for text in texts {
        put_text(row, text);
    }
}

fn take_text(row: &mut &[u8]) -> Option<String> {
    let bytes = usize::try_from(varint::take(row)?).ok()?;
    let (text, rest) = row.split_at_checked(bytes)?;
    *row = rest;
    String::from_utf8(text.to_vec()).ok()
}

/// Every text takes at least a byte, so a count that cannot be true ends early.
fn take_texts(row: &mut &[u8]) -> Option<Vec<String>> {
    (0..varint::take(row)?).map(|_| take_text(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, peer_url: &str) -> Member {
        let client_urls = vec![format!("http://client-{id}:2379")];
        Member { id, name: format!("m{id}"), peer_urls: vec![peer_url.to_owned()], client_urls }
    }

    #[test]
    fn a_member_is_read_as_it_was_written_and_nothing_makes_the_reader_panic() {
        let whole = member(7, "http://a:2380");
        let row = whole.row();
        assert_eq!(Member::read(&whole.key(), &row), Some(whole.clone()));
        for cut in 0..row.len() {
            assert_eq!(Member::read(&whole.key(), &row[..cut]), None, "{cut}");
        }
        assert_eq!(Member::read(&whole.key(), &[1, b'n', 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]), None);
    }

    #[test]
    fn a_member_that_starts_again_keeps_the_peer_addresses_that_it_was_moved_to() {
        let mut members = Members::default();
        members.change(MemberChange::Publish(member(1, "http://a:2380"))).expect("new");
        members.change(MemberChange::Publish(member(2, "http://b:2380"))).expect("new");
        let moved = MemberChange::PeerUrls { id: 1, peer_urls: vec!["http://c:2380".to_owned()] };
        assert_eq!(members.change(moved).expect("moved").peer_urls, ["http://c:2380"]);
        let renamed = Member { name: "other".to_owned(), ..member(1, "http://a:2380") };
        let known = members.change(MemberChange::Publish(renamed)).expect("known");
        assert_eq!((&known.name[..], &known.peer_urls[..]), ("other", &["http://c:2380".to_owned()][..]));
    }

    #[test]
    fn no_two_members_share_a_peer_address() {
        let mut members = Members::default();
        members.change(MemberChange::Publish(member(1, "http://a:2380"))).expect("new");
        members.change(MemberChange::Publish(member(2, "http://b:2380"))).expect("new");
        let to = |id, url: &str| MemberChange::PeerUrls { id, peer_urls: vec![url.to_owned()] };
        assert_eq!(members.change(to(2, "http://a:2380")), Err(Refusal::PeerUrlExists));
        assert_eq!(members.change(to(3, "http://d:2380")), Err(Refusal::MemberNotFound));
        assert!(members.change(to(2, "http://b:2380")).is_ok());
        assert_eq!(members.all().len(), 2);
    }
}
