//! Facts from /proc about processes and about the machine.

use std::fs;

/// Processor time of processes in nanoseconds, or `None` if one of them is gone.
///
/// `schedstat` is exact for a process that sleeps, and late by at most a tick for one that runs.
pub(crate) fn cpu_nsec(pids: &[i32]) -> Option<u64> {
    pids.iter()
        .map(|pid| run_time(&fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?))
        .sum()
}

fn run_time(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// Memory of a process in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Its own: heap, stacks, and what it has changed of what it shared.
    pub(crate) own: u64,
    /// Of shared memory, the part that it has touched.
    pub(crate) shared: u64,
}

pub(crate) fn memory(pid: i32) -> Option<Memory> {
    parse_memory(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_memory(status: &str) -> Option<Memory> {
    Some(Memory { own: kilobytes(status, "RssAnon:")?, shared: kilobytes(status, "RssShmem:")? })
}

/// The value of a line such as `RssAnon:   12 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The living children of a process.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids: Vec<i32> = pids
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            parent_of(&stat) == Some(parent)
        })
        .collect();
    pids.sort_unstable();
    pids
}

/// The parent, from a line of `stat`. `None` for a zombie.
fn parent_of(stat: &str) -> Option<i32> {
    // The name may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" { None } else { fields.next()?.parse().ok() }
}

/// Memory of the machine in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MachineMemory {
    /// The kernel's own tables.
    pub(crate) kernel: u64,
    /// All that is in use, without what only keeps files at hand.
    pub(crate) used: u64,
    /// Memory that programs can get without swapping.
    pub(crate) available: u64,
}

pub(crate) fn machine_memory() -> Option<MachineMemory> {
    parse_machine_memory(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_machine_memory(meminfo: &str) -> Option<MachineMemory> {
    let sum = |names: &[&str]| names.iter().filter_map(|name| kilobytes(meminfo, name)).sum();
    let files: u64 = sum(&["MemFree:", "Buffers:", "Cached:"]);
    let used = kilobytes(meminfo, "MemTotal:")? + kilobytes(meminfo, "Shmem:").unwrap_or(0);
    Some(MachineMemory {
        kernel: sum(&["Slab:", "KernelStack:", "PageTables:", "Percpu:"]),
        used: used.saturating_sub(files),
        available: kilobytes(meminfo, "MemAvailable:")?,
    })
}

/// Nanoseconds for which processors were busy since the start, and for which the host took them away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Busy {
    pub(crate) busy: u64,
    pub(crate) stolen: u64,
}

pub(crate) fn busy() -> Option<Busy> {
    parse_busy(&fs::read_to_string("/proc/stat").ok()?)
}

fn parse_busy(stat: &str) -> Option<Busy> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal, in hundredths of a second
    let ticks: Vec<u64> = line.split_whitespace().map_while(|it| it.parse().ok()).collect();
    let at = |index: usize| ticks.get(index).map(|ticks| ticks * 10_000_000);
    let busy = [0, 1, 2, 5, 6].iter().map(|&index| at(index)).sum::<Option<u64>>()?;
    Some(Busy { busy, stolen: at(7)? })
}

/// Such as "AMD EPYC".
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name.trim()).to_owned()
}

pub(crate) fn kernel() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

pub(crate) fn memory_total() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kilobytes(&text, "MemTotal:").unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc() {
        assert_eq!(run_time("123456 789 3\n"), Some(123_456));
        assert_eq!(run_time(""), None);
        let status =
            "Name:\tnginx\nRssAnon:\t    1204 kB\nRssFile:\t 8 kB\nRssShmem:\t      64 kB\n";
        assert_eq!(parse_memory(status), Some(Memory { own: 1204 * 1024, shared: 64 * 1024 }));
        assert_eq!(parent_of("12 (a) b) S 7 12 12"), Some(7));
        assert_eq!(parent_of("12 (nginx) Z 7 12 12"), None);
        let meminfo = "MemTotal: 100 kB\nMemFree: 20 kB\nMemAvailable: 60 kB\nBuffers: 1 kB\n\
                       Cached: 30 kB\nShmem: 5 kB\nSlab: 7 kB\nPageTables: 2 kB\n";
        let memory = MachineMemory { kernel: 9 * 1024, used: 54 * 1024, available: 60 * 1024 };
        assert_eq!(parse_machine_memory(meminfo), Some(memory));
        let stat = "cpu  10 1 5 900 3 1 2 4 0 0\ncpu0 1 1 1\n";
        assert_eq!(parse_busy(stat), Some(Busy { busy: 190_000_000, stolen: 40_000_000 }));
    }

    #[test]
    fn this_process() {
        let own = std::process::id() as i32;
        assert!(cpu_nsec(&[own]).is_some());
        assert!(memory(own).is_some_and(|memory| memory.own > 0));
        assert_eq!(cpu_nsec(&[own, i32::MAX]), None);
        assert!(busy().is_some());
    }
}
