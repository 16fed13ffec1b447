//! Where a run has its chance from: of its seed alone.
//!
//! Owns: the random bytes of the thread that a run has for itself; and what the system's clock says there, as
//!       `wall_clock` has it.
//!
//! - Random bytes of the operating system are asked for beneath everybody: by the standard library for the order of its hash
//!   maps, by tokio for the fairness of `select!`, by `rand` for its generators. So it is there that they are replaced, by
//!   functions of the names that the C library's have: a program's own are linked in their place.
//! - The wall clock is replaced likewise. The steady one is tokio's, which the simulation moves on.
//! - Other threads get what the system gives.

use std::{
    cell::Cell,
    ffi::{c_int, c_uint, c_void},
    fs::File,
    io::Read,
};

use rustix::time::{ClockId, clock_gettime as real_clock};

use crate::wall_clock;

thread_local! {
    /// Of the next random bytes; `None` on a thread without a run.
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Gives this thread to a run. What it drew before counts too, so it should be new.
pub(crate) fn begin(seed: u64) {
    STATE.set(Some(seed));
    wall_clock::begin();
}

/// `SplitMix64`: one number after another, each of 2^64 once.
fn next(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state, mixed ^ (mixed >> 31))
}

fn fill(bytes: &mut [u8]) -> bool {
    let Some(mut state) = STATE.get() else {
        return File::open("/dev/urandom").and_then(|mut system| system.read_exact(bytes)).is_ok();
    };
    for chunk in bytes.chunks_mut(8) {
        let number;
        (state, number) = next(state);
        chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
    }
    STATE.set(Some(state));
    true
}

/// getrandom(2).
#[expect(unsafe_code, reason = "it has the name and the shape of the C library's, which it replaces")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    if buffer.is_null() {
        return -1;
    }
    // SAFETY: the caller gives a buffer of this length to be filled, which zeroing makes a slice of initialized bytes.
    let bytes = unsafe {
        buffer.cast::<u8>().write_bytes(0, length);
        std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
    };
    if fill(bytes) { isize::try_from(length).unwrap_or(isize::MAX) } else { -1 }
}

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// `clock_gettime(2)`.
#[expect(unsafe_code, reason = "it has the name and the shape of the C library's, which it replaces")]
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let told = match clock {
        0 if STATE.get().is_some() => shown(),
        0 => real(ClockId::Realtime),
        1 => real(ClockId::Monotonic),
        2 => real(ClockId::ProcessCPUTime),
        3 => real(ClockId::ThreadCPUTime),
        5 => real(ClockId::RealtimeCoarse),
        6 => real(ClockId::MonotonicCoarse),
        _ => return -1,
    };
    // SAFETY: the caller gives a place for the time to be written to.
    unsafe { time.write(told) };
    0
}

fn shown() -> Timespec {
    let now = wall_clock::shown();
    Timespec { seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanoseconds: i64::from(now.subsec_nanos()) }
}

fn real(clock: ClockId) -> Timespec {
    let now = real_clock(clock);
    Timespec { seconds: now.tv_sec, nanoseconds: now.tv_nsec }
}

#[cfg(test)]
mod tests {
    use std::{
        hash::{BuildHasher, RandomState},
        thread,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use super::*;

    fn drawn(seed: u64) -> (u64, u64, Duration) {
        let draw = move || {
            begin(seed);
            wall_clock::all_at(Duration::from_secs(7));
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            (RandomState::new().hash_one("a key"), rand::random(), wall)
        };
        thread::spawn(draw).join().expect("no panic")
    }

    #[test]
    fn a_thread_of_a_run_draws_what_its_seed_says() {
        assert_eq!(drawn(1), drawn(1));
        assert_ne!((drawn(1).0, drawn(1).1), (drawn(2).0, drawn(2).1));
        assert_eq!(drawn(1).2, Duration::from_secs(1_800_000_007));
    }

    #[test]
    fn another_thread_draws_what_the_system_gives() {
        let draw = || thread::spawn(rand::random::<u64>).join().expect("no panic");
        assert_ne!(draw(), draw());
        assert_ne!(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 86_400, 20_833);
    }
}
