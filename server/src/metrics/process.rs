//! What the kernel knows of this process, under Prometheus' usual names.
//!
//! Source: proc(5), `stat` and `limits`.

use std::fs;

use super::text::Page;

/// The fields of `/proc/self/stat` behind the command's name, counted from the state.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const START_TICKS: usize = 19;
const VIRTUAL_BYTES: usize = 20;
const RESIDENT_PAGES: usize = 21;

/// Adds what can be read; what can not is left out.
pub(super) fn write(page: &mut Page) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        page.counter("process_cpu_seconds_total", "Time that the process has run, in user mode and in the kernel.")
            .is(stat.cpu_seconds);
        page.gauge("process_resident_memory_bytes", "Memory that the process holds.").is(stat.resident_bytes);
        page.gauge("process_virtual_memory_bytes", "Address space of the process.").is(stat.virtual_bytes);
        if let Some(boot) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(boot_time) {
            page.gauge("process_start_time_seconds", "When the process was started, seconds since 1970.")
                .is(boot + stat.start_seconds);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The listing itself has one open.
        page.gauge("process_open_fds", "File descriptors that are open.").is(open.count().saturating_sub(1));
    }
    if let Some(max) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(max_files) {
        page.gauge("process_max_fds", "File descriptors that may be open.").is(max);
    }
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    start_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    #[expect(clippy::cast_precision_loss, reason = "seconds of a process' life are far below 2^53 ticks")]
    fn parse(text: &str) -> Option<Self> {
        // The name stands in parentheses and may hold anything, parentheses too.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: seconds(number(USER_TICKS)? + number(SYSTEM_TICKS)?),
            start_seconds: seconds(number(START_TICKS)?),
            virtual_bytes: number(VIRTUAL_BYTES)?,
            resident_bytes: number(RESIDENT_PAGES)? * rustix::param::page_size() as u64,
        })
    }
}

fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn max_files(text: &str) -> Option<u64> {
    let limits = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    limits.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_the_kernel_writes_it() {
        let text = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 4 0 300 4096 2 18446744073709551615 1";
        let stat = Stat::parse(text).unwrap();
        let ticks = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap());
        assert_eq!((stat.cpu_seconds, stat.start_seconds), (200.0 / ticks, 300.0 / ticks));
        assert_eq!((stat.virtual_bytes, stat.resident_bytes), (4096, 2 * rustix::param::page_size() as u64));
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        assert_eq!(
            max_files("Max processes 1 2 x\nMax open files            1024                 4096 files\n"),
            Some(1024)
        );
        for torn in ["", "42 (a", "42 (a) S 1"] {
            assert_eq!(Stat::parse(torn), None, "{torn}");
        }
    }
}
