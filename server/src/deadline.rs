//! Until when a client waits for its call.
//!
//! Owns: what `grpc-timeout` says, and the end of the calls whose time is over.
//!
//! - The field is read once, where all calls come in: [`crate::GrpcFace`], which ends them, streams too.
//! - What ends is dropped, as if its client had gone away: a command that is in no entry by then never will be, and of one
//!   that is, the client is told what gRPC means by `DeadlineExceeded`: that it may have been written.
//! - A call without a deadline costs a look at its fields. One with a deadline has one timer, started when it first has to
//!   wait: what it waits for within the server has none beside it, if that would come later.
//!
//! Source of the field: gRPC over HTTP/2, `PROTOCOL-HTTP2.md`, "Timeout".

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use crate::status::malformed_timeout;

/// The field that tells it.
pub(crate) const FIELD: HeaderName = HeaderName::from_static("grpc-timeout");
const DIGITS_MAX: usize = 8;

/// When a call's time is over. Among a request's extensions it promises that the call is dropped then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(pub(crate) Instant);

impl Deadline {
    /// What a request says, from now on; `None` if its client waits for as long as it takes.
    ///
    /// # Errors
    /// If it says something else than a time.
    pub(crate) fn of(fields: &HeaderMap) -> Result<Option<Self>, Status> {
        let Some(field) = fields.get(FIELD) else { return Ok(None) };
        let timeout = timeout(field.as_bytes()).ok_or_else(|| malformed_timeout(field.as_bytes()))?;
        Ok(Instant::now().checked_add(timeout).map(Self))
    }
}

/// One to eight digits, and a unit.
fn timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0, |amount, digit| 10 * amount + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(60 * 60 * amount),
        b'M' => Duration::from_secs(60 * amount),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Ends a call when its time is over.
#[derive(Debug)]
pub(crate) struct Timer {
    deadline: Deadline,
    /// Boxed, so that it weighs nothing on calls that have no deadline or need not wait.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(crate) fn new(deadline: Deadline) -> Self {
        Self { deadline, sleep: None }
    }

    /// Whether the time is over now.
    pub(crate) fn is_over(&self) -> bool {
        self.deadline.0 <= Instant::now()
    }

    /// Ready when the time is over: to be asked while there is nothing else.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline.0;
        self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline))).as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::{collection::vec, prelude::*};
    use tonic::Code;

    use super::*;

    #[test]
    fn a_time_is_up_to_eight_digits_and_a_unit() {
        let said = [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("3S", Some(Duration::from_secs(3))),
            ("300m", Some(Duration::from_millis(300))),
            ("4999966u", Some(Duration::from_micros(4_999_966))),
            ("0n", Some(Duration::ZERO)),
            ("00000007n", Some(Duration::from_nanos(7))),
            ("99999999H", Some(Duration::from_hours(99_999_999))),
        ];
        let senseless =
            ["", "m", "1", "123", "1s", "1h", "+1S", "-1S", "1.5S", " 1S", "1S ", "1mS", "123456789n", "९S"];
        let senseless = senseless.into_iter().map(|text| (text, None));
        for (text, expected) in said.into_iter().chain(senseless) {
            assert_eq!(timeout(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_field_that_is_no_time_is_refused_and_none_is_no_deadline() {
        let said = |text: &'static str| Deadline::of(&HeaderMap::from_iter([(FIELD, HeaderValue::from_static(text))]));
        assert_eq!(Deadline::of(&HeaderMap::new()).unwrap(), None);
        let now = Instant::now();
        let soon = said("3S").unwrap().unwrap().0;
        assert!(now + Duration::from_secs(3) <= soon && soon <= Instant::now() + Duration::from_secs(3));
        let refused = said("soon").unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Internal, r#"malformed grpc-timeout: "soon""#));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_time_or_are_refused(text in vec(any::<u8>(), 0..12)) {
            if let Some(timeout) = timeout(&text) {
                prop_assert!(timeout <= Duration::from_hours(99_999_999));
            }
            if let Ok(field) = HeaderValue::from_bytes(&text) {
                let deadline = Deadline::of(&HeaderMap::from_iter([(FIELD, field)]));
                prop_assert_eq!(deadline.is_ok(), timeout(&text).is_some());
            }
        }

        #[test]
        fn what_clients_write_is_read(amount in 0..100_000_000_u32, unit in 0..6_usize) {
            let seconds = [3600.0, 60.0, 1.0, 1e-3, 1e-6, 1e-9][unit];
            let text = format!("{amount}{}", ["H", "M", "S", "m", "u", "n"][unit]);
            let read = timeout(text.as_bytes()).map(|timeout| timeout.as_secs_f64());
            let meant = f64::from(amount) * seconds;
            prop_assert!(read.is_some_and(|read| (read - meant).abs() <= meant * 1e-9), "{text}");
        }
    }
}
