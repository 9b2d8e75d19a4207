//! The two figures of a process that every dashboard asks for, read from
//! `/proc` at each scrape. Where there is no `/proc`, they are left out.

use std::{fmt, fs, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// A tick of `/proc/self/stat`: `USER_HZ` is 100 on every architecture that
/// Rust and Kubernetes share.
const TICK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        if let Some(bytes) = read("/proc/self/status", resident_bytes) {
            let gauge = ConstGauge::new(bytes);
            let help = "Resident memory size in bytes";
            let unit = Some(&Unit::Bytes);
            gauge.encode(encoder.encode_descriptor(
                "process_resident_memory",
                help,
                unit,
                gauge.metric_type(),
            )?)?;
        }
        if let Some(time) = read("/proc/self/stat", cpu_time) {
            let counter = ConstCounter::new(time.as_secs_f64());
            let help = "Total user and system CPU time spent in seconds";
            let unit = Some(&Unit::Seconds);
            counter.encode(encoder.encode_descriptor("process_cpu", help, unit, counter.metric_type())?)?;
        }
        Ok(())
    }
}

fn read<T>(path: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
    fs::read_to_string(path).ok().as_deref().and_then(parse)
}

/// `VmRSS:     1234 kB`
fn resident_bytes(status: &str) -> Option<u64> {
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kibibytes.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// Fields 14 and 15, utime and stime. Field 2 is the name of the program and
/// may hold spaces and brackets, so the count starts after its last bracket.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    TICK.checked_mul(user)?.checked_add(TICK.checked_mul(system)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2 * 1024 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn cpu_time_survives_a_program_name_with_brackets() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 10 0 0 0 150 50 0 0 20 0 4 0 100 0 0";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_time("7 (x) S 1"), None);
    }
}
