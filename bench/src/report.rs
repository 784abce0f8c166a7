//! The results of a run: the content of the JSON file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::statistics::Summary;

/// Measured values, by name.
pub(crate) type Values = BTreeMap<String, f64>;

/// Microseconds of the server's processor for each unit of work.
pub(crate) const CPU: &str = "cpu_us";
/// Units of work in a second.
pub(crate) const RATE: &str = "per_second";
/// Microseconds that half of all units, 99 % and 99.9 % of them took at most.
pub(crate) const P50: &str = "p50_us";
pub(crate) const P99: &str = "p99_us";
pub(crate) const P999: &str = "p999_us";
/// Messages that a subscriber found together when it read its socket.
pub(crate) const TOGETHER: &str = "together";
/// Bytes of the server's own and shared memory for each unit.
pub(crate) const BYTES: &str = "bytes";
/// Bytes of the kernel's memory for each unit, both ends of the connections together.
pub(crate) const KERNEL: &str = "kernel_bytes";
/// Microseconds of the server's processor for each subscriber that leaves.
pub(crate) const LEAVING: &str = "leaving_us";
pub(crate) const SECONDS: &str = "seconds";
/// Instructions of user code, and system calls, for each unit.
pub(crate) const INSTRUCTIONS: &str = "instructions";
pub(crate) const CALLS: &str = "system_calls";
/// How busy server and generator kept their processors, from 0 to 1 and beyond for several processors.
pub(crate) const SERVER_BUSY: &str = "server_busy";
pub(crate) const GENERATOR_BUSY: &str = "generator_busy";
/// The shares of the whole machine that other processes and the host had meanwhile, from 0 to 1.
pub(crate) const OTHERS_BUSY: &str = "others_busy";
pub(crate) const STOLEN: &str = "stolen";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) peer: String,
    pub(crate) values: Values,
    /// Why it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Name of the scenario on the command line.
    pub(crate) scenario: String,
    pub(crate) title: String,
    /// The unit of work, such as "delivery".
    pub(crate) unit: String,
    /// In the order in which they were made.
    pub(crate) runs: Vec<Run>,
}

impl Outcome {
    /// The peers in the order of their first runs.
    pub(crate) fn peers(&self) -> Vec<&str> {
        let mut peers: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !peers.contains(&run.peer.as_str()) {
                peers.push(&run.peer);
            }
        }
        peers
    }

    /// The values of that name of all good runs of a peer.
    pub(crate) fn summary(&self, peer: &str, value: &str) -> Option<Summary> {
        let good = self.runs.iter().filter(|run| run.peer == peer && run.failure.is_none());
        Summary::of(good.filter_map(|run| run.values.get(value).copied()).collect())
    }

    /// Why runs of a peer have failed.
    pub(crate) fn failures(&self, peer: &str) -> Vec<&str> {
        let runs = self.runs.iter().filter(|run| run.peer == peer);
        runs.filter_map(|run| run.failure.as_deref()).collect()
    }

    /// Names of values that any run has.
    pub(crate) fn has(&self, value: &str) -> bool {
        self.runs.iter().any(|run| run.values.contains_key(value))
    }
}

/// The machine and the programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cpus: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Versions, by name of the program.
    pub(crate) versions: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Seconds since 1970.
    pub(crate) when: u64,
    pub(crate) machine: Machine,
    pub(crate) took_seconds: u64,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Report {
    pub(crate) fn outcome(&self, scenario: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.scenario == scenario)
    }

    /// The median of a value.
    pub(crate) fn median(&self, scenario: &str, peer: &str, value: &str) -> Option<f64> {
        Some(self.outcome(scenario)?.summary(peer, value)?.median)
    }
}
