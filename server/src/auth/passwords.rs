//! Passwords, which cost time on purpose.
//!
//! Owns: bcrypt, where it holds nobody up, a few at once.
//!
//! - Checking takes as long for a user that is not there as for a wrong password.

use std::{
    sync::{Arc, OnceLock},
    thread,
};

use bcrypt::Version;
use engine::Workers;
use store::PasswordHash;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;
use zeroize::Zeroizing;

use crate::status::{password_too_long, timed_out, too_many_requests};

/// Callers that wait for their turn; more are turned away.
const WAITING_MAX: usize = 256;
/// Longest password, bytes: bcrypt looks at no more.
const PASSWORD_BYTES_MAX: usize = 72;

/// A password that is wiped after use.
pub(crate) type Password = Zeroizing<String>;

/// Hashes and checks passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    cost: u32,
    workers: Workers,
    at_once: Semaphore,
    waiting: Semaphore,
    /// What is checked in place of a hash that there is not.
    decoy: Arc<OnceLock<PasswordHash>>,
}

impl Passwords {
    /// `cost`: as [`AuthConfig`](super::AuthConfig) says.
    pub(crate) fn new(cost: u32, workers: Workers) -> Self {
        // The other half of the cores serve those who are logged in already.
        let at_once = thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        let (at_once, waiting) = (Semaphore::new(at_once), Semaphore::new(WAITING_MAX));
        Self { cost, workers, at_once, waiting, decoy: Arc::default() }
    }

    /// What a password will be checked against.
    pub(crate) async fn hash(&self, password: Password) -> Result<PasswordHash, Status> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(password_too_long());
        }
        let cost = self.cost;
        self.work(move || hash(&password, cost)).await?
    }

    /// Whether a password is the one that was hashed; never, but no sooner, if there is none.
    pub(crate) async fn check(&self, password: Password, expected: Option<PasswordHash>) -> Result<bool, Status> {
        let (cost, decoy) = (self.cost, Arc::clone(&self.decoy));
        self.work(move || {
            let decoy = decoy.get_or_init(|| hash("decoy", cost).unwrap_or_default());
            let matches = verify(&password, expected.as_ref().unwrap_or(decoy));
            matches && expected.is_some()
        })
        .await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let _turn: SemaphorePermit<'_> = {
            let _waits = self.waiting.try_acquire().map_err(|_full| too_many_requests())?;
            self.at_once.acquire().await.map_err(|_closed| timed_out())?
        };
        let outcome = self.workers.run(work).await;
        outcome.map_err(|error| Status::unknown(error.to_string()))
    }
}

/// In the form that etcd writes, so that an etcd can read it.
fn hash(password: &str, cost: u32) -> Result<PasswordHash, Status> {
    let parts = bcrypt::hash_with_result(password, cost).map_err(|error| Status::unknown(error.to_string()))?;
    Ok(PasswordHash::new(parts.format_for_version(Version::TwoA)))
}

fn verify(password: &str, expected: &PasswordHash) -> bool {
    let expected = std::str::from_utf8(expected.as_bytes()).unwrap_or_default();
    bcrypt::verify(password, expected).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn password(text: &str) -> Password {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_is_known_by_its_hash() {
        let passwords = Passwords::new(4, Workers::Threads);
        for text in ["", "secret", "päss", &"x".repeat(72)] {
            let hash = passwords.hash(password(text)).await.expect("hashed");
            assert!(hash.as_bytes().starts_with(b"$2a$04$"));
            assert!(passwords.check(password(text), Some(hash.clone())).await.expect("checked"));
            assert!(!passwords.check(password("other"), Some(hash)).await.expect("checked"));
        }
        assert!(!passwords.check(password("decoy"), None).await.expect("checked"));
        assert!(!passwords.check(password(""), Some(PasswordHash::default())).await.expect("checked"));
        let refused = passwords.hash(password(&"x".repeat(73))).await.expect_err("too long");
        assert_eq!(refused.message(), "bcrypt: password length exceeds 72 bytes");
    }

    #[tokio::test]
    async fn a_user_that_is_not_there_takes_as_long_as_a_wrong_password() {
        let passwords = Passwords::new(10, Workers::Threads);
        let hash = passwords.hash(password("secret")).await.expect("hashed");
        passwords.check(password("warm"), None).await.expect("checked");
        let mut spent = [Instant::now().elapsed(); 2];
        for round in 0..10 {
            let expected = (round % 2 == 0).then(|| hash.clone());
            let begun = Instant::now();
            passwords.check(password("wrong"), expected).await.expect("checked");
            spent[round % 2] += begun.elapsed();
        }
        let [known, unknown] = spent.map(|spent| spent.as_secs_f64());
        // Far from equal would be a factor of a thousand; the machine may be busy meanwhile.
        assert!((0.3..3.0).contains(&(known / unknown)), "{known} s and {unknown} s");
    }

    #[tokio::test]
    async fn more_than_can_wait_are_turned_away() {
        let passwords = Passwords::new(4, Workers::Threads);
        let _all = passwords.waiting.try_acquire_many(u32::try_from(WAITING_MAX).expect("few")).expect("free");
        let refused = passwords.check(password("x"), None).await.expect_err("full");
        assert_eq!(refused.message(), "etcdserver: too many requests");
    }
}
