//! Simple tokens: a random word and the log index of the login, remembered by every member.
//!
//! Owns: the tokens that live, and until when.
//! In:   logins, and what ends tokens, as the log is applied.
//!
//! - A token lives for its TTL after its last use on this member, until its user's password changes, until the user is
//!   gone, or until auth is disabled.
//! - The word is known to its user alone: members and their logs know its SHA-256.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::RwLock;
use rand::RngExt;
use store::{AuthCommand, Command, TokenDigest};

use crate::clock::Clock;

/// Letters of a token's word. Source: etcd `defaultSimpleTokenLength`.
const WORD_LETTERS: usize = 16;
/// Tokens that live at once on a member; a new one takes the place of those that were not used for longest.
const TOKENS_MAX: usize = 100_000;
/// Fewer tokens than this are not looked through for dead ones.
const TOKENS_BEFORE_CLEANING: usize = 1024;

/// The tokens of one member.
#[derive(Debug)]
pub(crate) struct SimpleTokens {
    ttl: Duration,
    clock: Clock,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    tokens: HashMap<TokenDigest, Live>,
    /// How many tokens there may be before dead ones are looked for.
    clean_at: usize,
}

#[derive(Debug)]
struct Live {
    user: Arc<str>,
    index: u64,
    /// Milliseconds of the clock.
    until: AtomicU64,
}

/// What became of looking for a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It lives, and has its full TTL again.
    User(Arc<str>),
    /// This member does not know it, though it may have been given out at this index.
    Unknown {
        /// Of the login's entry in the log.
        index: u64,
    },
    /// It is not of the form.
    Malformed,
}

/// What an applied command means for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Somebody has logged in.
    Given {
        /// What their token's word hashes to.
        digest: TokenDigest,
        /// The login's place in the log.
        index: u64,
        /// Who.
        user: Arc<str>,
    },
    /// A user's tokens have ended.
    UserEnded(String),
    /// All tokens have ended.
    AllEnded,
}

impl News {
    /// What a command means, given that it was applied and not refused.
    pub(crate) fn of(command: &Command, index: u64) -> Option<Self> {
        let Command::Auth(command) = command else { return None };
        match command {
            AuthCommand::Authenticate { user, token, .. } => {
                token.map(|digest| Self::Given { digest, index, user: user.as_str().into() })
            }
            AuthCommand::UserDelete { name } | AuthCommand::UserChangePassword { name, .. } => {
                Some(Self::UserEnded(name.clone()))
            }
            AuthCommand::Disable => Some(Self::AllEnded),
            _ => None,
        }
    }
}

/// A new word, and what the log is told of it.
pub(crate) fn new_word() -> (String, TokenDigest) {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut rng = rand::rng();
    let word: String = (0..WORD_LETTERS).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect();
    let hash = hash(&word);
    (word, hash)
}

fn hash(word: &str) -> TokenDigest {
    digest(&SHA256, word.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl SimpleTokens {
    pub(crate) fn new(ttl: Duration, clock: Clock) -> Self {
        let table = Table { tokens: HashMap::new(), clean_at: TOKENS_BEFORE_CLEANING };
        Self { ttl, clock, table: RwLock::new(table) }
    }

    /// Who a token was given to.
    pub(crate) fn find(&self, token: &str) -> Found {
        let Some((word, index)) = token.split_once('.') else { return Found::Malformed };
        let Ok(index) = index.parse() else { return Found::Malformed };
        let now = self.now();
        let table = self.table.read();
        match table.tokens.get(&hash(word)) {
            Some(live) if live.index == index && now < live.until.load(Ordering::Relaxed) => {
                live.until.store(self.end(now), Ordering::Relaxed);
                Found::User(Arc::clone(&live.user))
            }
            Some(_) | None => Found::Unknown { index },
        }
    }

    /// Does what was applied.
    pub(crate) fn tell(&self, news: News) {
        let mut table = self.table.write();
        match news {
            News::Given { digest, index, user } => {
                let now = self.now();
                table.make_room(now);
                table.tokens.insert(digest, Live { user, index, until: self.end(now).into() });
            }
            News::UserEnded(name) => table.tokens.retain(|_, live| *live.user != *name),
            News::AllEnded => table.tokens.clear(),
        }
    }

    fn now(&self) -> u64 {
        milliseconds(self.clock.now())
    }

    fn end(&self, now: u64) -> u64 {
        now.saturating_add(milliseconds(self.ttl))
    }
}

impl Table {
    /// Forgets dead tokens whenever there are twice as many as lived last time, and at the limit the least used ones.
    fn make_room(&mut self, now: u64) {
        if self.tokens.len() < self.clean_at {
            return;
        }
        self.tokens.retain(|_, live| now < *live.until.get_mut());
        if self.tokens.len() >= TOKENS_MAX {
            let mut ends: Vec<u64> = self.tokens.values().map(|live| live.until.load(Ordering::Relaxed)).collect();
            let (_, &mut median, _) = ends.select_nth_unstable(TOKENS_MAX / 2);
            self.tokens.retain(|_, live| *live.until.get_mut() > median);
        }
        self.clean_at = (2 * self.tokens.len()).clamp(TOKENS_BEFORE_CLEANING, TOKENS_MAX);
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn given(word: &str, index: u64, user: &str) -> News {
        News::Given { digest: hash(word), index, user: user.into() }
    }

    #[test]
    fn a_token_is_its_word_and_its_index() {
        let tokens = SimpleTokens::new(MINUTE, Clock::start());
        let (word, digest) = new_word();
        assert!(word.len() == WORD_LETTERS && word.bytes().all(|byte| byte.is_ascii_alphabetic()));
        assert_ne!(new_word().0, word);
        tokens.tell(News::Given { digest, index: 7, user: "u".into() });
        let cases = [
            (format!("{word}.7"), Found::User("u".into())),
            (format!("{word}.8"), Found::Unknown { index: 8 }),
            ("other.7".to_owned(), Found::Unknown { index: 7 }),
            (word.clone(), Found::Malformed),
            (format!("{word}.x"), Found::Malformed),
            (format!("{word}.7.7"), Found::Malformed),
            (String::new(), Found::Malformed),
        ];
        for (token, expected) in cases {
            assert_eq!(tokens.find(&token), expected, "{token:?}");
        }
    }

    #[test]
    fn a_token_ends_with_its_user_its_password_and_with_auth() {
        let name = || "u".to_owned();
        let password = store::PasswordHash::default();
        for command in [
            AuthCommand::UserDelete { name: name() },
            AuthCommand::UserChangePassword { name: name(), password },
            AuthCommand::Disable,
        ] {
            let ends_all = command == AuthCommand::Disable;
            let tokens = SimpleTokens::new(MINUTE, Clock::start());
            tokens.tell(given("a", 1, "u"));
            tokens.tell(given("b", 2, "v"));
            tokens.tell(News::of(&Command::Auth(command), 3).expect("it ends tokens"));
            assert_eq!(tokens.find("a.1"), Found::Unknown { index: 1 });
            assert_eq!(tokens.find("b.2") == Found::User("v".into()), !ends_all);
        }
    }

    #[test]
    fn a_token_lives_for_its_ttl_after_its_last_use() {
        let tokens = SimpleTokens::new(Duration::ZERO, Clock::start());
        tokens.tell(given("a", 1, "u"));
        assert_eq!(tokens.find("a.1"), Found::Unknown { index: 1 });
        let tokens = SimpleTokens::new(MINUTE, Clock::start());
        tokens.tell(given("a", 1, "u"));
        let until = || tokens.table.read().tokens[&hash("a")].until.load(Ordering::Relaxed);
        tokens.table.read().tokens[&hash("a")].until.fetch_sub(30_000, Ordering::Relaxed);
        let before = until();
        assert_eq!(tokens.find("a.1"), Found::User("u".into()));
        assert!(until() >= before + 30_000);
    }

    #[test]
    fn the_table_is_bounded() {
        let tokens = SimpleTokens::new(MINUTE, Clock::start());
        for index in 0..TOKENS_MAX as u64 + 10 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&index.to_be_bytes());
            tokens.tell(News::Given { digest, index, user: "u".into() });
        }
        assert!(tokens.table.read().tokens.len() <= TOKENS_MAX);
        let dying = SimpleTokens::new(Duration::ZERO, Clock::start());
        for index in 0..3000_u64 {
            dying.tell(given(&index.to_string(), index, "u"));
        }
        assert!(dying.table.read().tokens.len() <= TOKENS_BEFORE_CLEANING);
    }
}
