//! Measures this module and others under load. `scripts/bench` runs it, and says how to use it.

mod board;
mod count;
mod crowd;
mod decoder;
mod document;
mod floor;
mod generator;
mod histogram;
mod http;
mod measure;
mod options;
mod payload;
mod peer;
mod plan;
mod plot;
mod proc;
mod publisher;
mod quick;
mod report;
mod scenario;
mod statistics;
mod subscriber;
mod sys;
mod table;
mod target;
mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use measure::Bench;
use options::Options;
use peer::{Kind, Peer, Places};
use report::{Machine, Outcome, Report};
use scenario::Scenario;

/// Names of the peers that the targets are about.
const OURS: &str = "ours";
const MANY: &str = "many-subscribers";
const NCHAN: &str = "nchan";
const MERGING: &str = "floor-merging";
const BARE: &str = "floor-bare";

/// Says on stderr what went wrong, a few times.
fn note(text: &str) {
    const MOST: u32 = 20;
    static NOTES: AtomicU32 = AtomicU32::new(0);
    if NOTES.fetch_add(1, Ordering::Relaxed) < MOST {
        eprintln!("bench: {text}");
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<bool, String> {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        // Not for people: the bare server is this program as well.
        ["floor", address, kind @ ("bare" | "merging")] => {
            let address = address.parse().map_err(|_| format!("{address}: no address"))?;
            sys::raise_file_limit().map_err(|error| format!("file limit: {error}"))?;
            floor::serve(address, kind == "merging").map_err(|error| format!("floor: {error}"))?;
            Ok(true)
        }
        // Nor this: seconds and resident bytes of another program.
        ["resident", program, ..] => resident(program, &arguments[2..]),
        ["plot", json, document] => {
            document::write(Path::new(json), Path::new(document))?;
            Ok(true)
        }
        ["list"] => {
            for scenario in scenario::all() {
                println!("{:16} {}", scenario.name, scenario.title);
            }
            Ok(true)
        }
        _ => {
            let options = Options::parse(arguments)?;
            let files = sys::raise_file_limit().map_err(|error| format!("file limit: {error}"))?;
            match options.words.first().map(String::as_str) {
                Some("quick") => quick(&options),
                Some("crowd") => crowd(&options, files),
                _ => scenarios(&options),
            }
        }
    }
}

fn resident(program: &str, arguments: &[String]) -> Result<bool, String> {
    let tell = |error: std::io::Error| format!("{program}: {error}");
    let began = Instant::now();
    let quiet = Stdio::null;
    let child = Command::new(program)
        .args(arguments)
        .stdout(quiet())
        .stderr(quiet())
        .spawn()
        .map_err(tell)?;
    let (status, memory) = sys::wait_with_memory(&child).map_err(tell)?;
    println!("{} {memory}", began.elapsed().as_secs_f64());
    Ok(status.success())
}

/// The peers of a run, the subject first.
fn peers(options: &Options) -> Result<Vec<Peer>, String> {
    let module = options.module.clone().ok_or("--module is missing")?;
    let kind = Kind::PushStream { module: module.clone() };
    let mut peers = vec![Peer { name: OURS.into(), kind }];
    if let Some(file) = options.many.clone() {
        peers.push(Peer { name: MANY.into(), kind: Kind::Shipped { module, file } });
    }
    for (name, module) in &options.with {
        peers.push(Peer { name: name.clone(), kind: Kind::PushStream { module: module.clone() } });
    }
    if let Some(module) = &options.nchan {
        let kind = Kind::Nchan { module: module.clone() };
        peers.push(Peer { name: NCHAN.into(), kind });
    }
    peers.push(Peer { name: MERGING.into(), kind: Kind::Floor { merges: true } });
    peers.push(Peer { name: BARE.into(), kind: Kind::Floor { merges: false } });
    if let Some((publish, subscribe)) = options.publish.clone().zip(options.subscribe.clone()) {
        let kind = Kind::Other { publish, subscribe, mode: options.mode, pid: options.pid };
        peers.push(Peer { name: "other".into(), kind });
    }
    if !options.peers.is_empty() {
        peers.retain(|peer| options.peers.contains(&peer.name));
    }
    Ok(peers)
}

fn bench(options: &Options) -> Result<Bench, String> {
    let nginx = options.nginx.clone().ok_or("--nginx is missing")?;
    let work = options.work.clone().ok_or("--work is missing")?;
    Ok(Bench {
        places: Places { nginx, work },
        cpus: sys::cpus(),
        generators: options.generators,
        valgrind: options.valgrind.clone(),
        seconds: options.seconds,
    })
}

fn scenarios(options: &Options) -> Result<bool, String> {
    let all = scenario::all();
    let known = |name: &&String| !all.iter().any(|scenario| scenario.name == **name);
    if let Some(name) = options.words.iter().find(known) {
        return Err(format!("\"{name}\" is no scenario; \"scripts/bench list\" names them"));
    }
    let wanted = |scenario: &&Scenario| {
        options.words.is_empty() || options.words.iter().any(|word| word == scenario.name)
    };
    let mut report = begin(options);
    let (began, (bench, peers)) = (Instant::now(), (bench(options)?, peers(options)?));
    for scenario in all.iter().filter(wanted) {
        report.outcomes.push(measured(scenario, &bench, &peers, options.rounds));
    }
    report.took_seconds = began.elapsed().as_secs();
    finish(options, &report)
}

/// Measures a scenario and prints it.
fn measured(scenario: &Scenario, bench: &Bench, peers: &[Peer], rounds: u32) -> Outcome {
    println!("\n=== {}: {} (for each {})", scenario.name, scenario.title, scenario.unit);
    let outcome = scenario.measure(bench, peers, rounds, |run| {
        if let Some(failure) = &run.failure {
            note(&format!("{}: {}: {failure}", scenario.name, run.peer));
        }
    });
    print!("{}", table::aligned(&table::outcome(&outcome)));
    outcome
}

/// Counts of instructions against the stored ones.
fn quick(options: &Options) -> Result<bool, String> {
    let accept = match &options.words[1..] {
        [] => false,
        [word] if word == "accept" => true,
        _ => return Err("\"quick\" or \"quick accept\"".into()),
    };
    let file = options.expected.clone().ok_or("--expected is missing")?;
    let (bench, mut peers) = (bench(options)?, peers(options)?);
    peers.retain(Peer::is_subject);
    let all = scenario::all();
    let quick = all.iter().filter(|scenario| scenario::QUICK.contains(&scenario.name));
    let outcomes: Vec<_> = quick.map(|scenario| measured(scenario, &bench, &peers, 1)).collect();
    quick::finish(&outcomes, &file, accept)
}

/// Very many idle subscribers of this module.
fn crowd(options: &Options, files: u64) -> Result<bool, String> {
    let subscribers = match &options.words[1..] {
        [number] => number.replace([',', '_'], "").parse::<u32>().ok(),
        _ => None,
    };
    let subscribers = subscribers
        .filter(|number| (1..=2_000_000).contains(number))
        .ok_or("\"crowd N\", with at most 2,000,000 subscribers")?;
    let (bench, peers) = (bench(options)?, peers(options)?);
    let peer = peers.first().ok_or("no peer is left")?;
    let mut report = begin(options);
    let began = Instant::now();
    println!(
        "\n=== crowd: {} subscribers of {}",
        statistics::grouped(subscribers.into()),
        peer.name
    );
    let outcome = crowd::run(&bench, peer, subscribers, files);
    let failure = outcome.runs.iter().find_map(|run| run.failure.clone());
    report.outcomes.push(outcome);
    report.took_seconds = began.elapsed().as_secs();
    finish(options, &report)?;
    failure.map_or(Ok(true), Err)
}

fn begin(options: &Options) -> Report {
    Report {
        when: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        machine: machine(options, sys::cpus().len()),
        took_seconds: 0,
        outcomes: Vec::new(),
    }
}

/// Prints the targets, writes the file, and returns whether no run of ours has failed.
fn finish(options: &Options, report: &Report) -> Result<bool, String> {
    println!("\n=== machine");
    table::machine(report).iter().for_each(|line| println!("  {line}"));
    let judged = target::judge(report);
    if !judged.is_empty() {
        println!("\n=== targets");
        print!("{}", table::aligned(&target::lines(&judged)));
    }
    if let Some(path) = &options.json {
        write_json(path, report)?;
        println!("\nresults: {}", path.display());
    }
    println!("took {} s", report.took_seconds);
    let failed = report.outcomes.iter().flat_map(|outcome| outcome.failures(OURS)).count();
    if failed > 0 {
        println!("{failed} runs of this module have FAILED");
    }
    Ok(failed == 0)
}

fn write_json(path: &Path, report: &Report) -> Result<(), String> {
    let tell = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut report = report.clone();
    let runs = report.outcomes.iter_mut().flat_map(|outcome| &mut outcome.runs);
    let values = runs.flat_map(|run| run.values.values_mut());
    values.for_each(|value| *value = statistics::significant(*value, 5));
    let text = serde_json::to_string_pretty(&report).map_err(|error| tell(&error))?;
    fs::write(path, text + "\n").map_err(|error| tell(&error))
}

fn machine(options: &Options, cpus: usize) -> Machine {
    Machine {
        processor: proc::processor(),
        cpus,
        memory_bytes: proc::memory_total(),
        kernel: proc::kernel(),
        versions: options.versions.iter().cloned().collect::<BTreeMap<_, _>>(),
    }
}
