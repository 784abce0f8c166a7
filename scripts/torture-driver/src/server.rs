//! The nginx under test: starts it, reloads it, examines it, and kills its workers.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::http::Response;

/// The nginx, the module, and the directory for its files.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) binary: PathBuf,
    pub(crate) module: PathBuf,
    pub(crate) prefix: PathBuf,
    /// A library that lets [`Nginx::set_clock`] set the clock, if that is wanted.
    pub(crate) clock: Option<PathBuf>,
}

/// A configuration: the text outside of `http` and the text in it. `%PORT%` is the port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) main: String,
    pub(crate) http: String,
}

/// Time limit for anything that takes a moment on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running nginx. Dropped, it is killed with its workers.
pub(crate) struct Nginx {
    place: Place,
    port: u16,
    master: Child,
    /// Workers that we have killed.
    killed: HashSet<i32>,
    /// How often it was killed as a whole and started anew.
    pub(crate) restarts: u64,
}

impl Nginx {
    pub(crate) fn start(place: Place, config: &Config) -> Result<Self, String> {
        let tell = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        for directory in ["logs", "temp"] {
            fs::create_dir_all(place.prefix.join(directory)).map_err(tell("no prefix"))?;
        }
        let _ = fs::remove_file(place.prefix.join("logs/error.log"));
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(tell("no port"))?
            .port();
        write_config(&place, port, config).map_err(tell("no configuration"))?;
        write_whole(&place.prefix.join("clock"), "0\n").map_err(tell("no clock"))?;
        let master = spawn(&place).map_err(tell("nginx does not start"))?;
        let mut nginx = Self { place, port, master, killed: HashSet::new(), restarts: 0 };
        nginx.wait_for_workers()?;
        Ok(nginx)
    }

    fn wait_for_workers(&mut self) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while self.workers().is_empty() || TcpStream::connect(self.address()).is_err() {
            let ended = self.master.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > end {
                return Err(format!("nginx did not start, see {}", self.place.prefix.display()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Kills all of it, and starts it anew on the same port. Its zone is lost.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.slay();
        self.restarts += 1;
        self.master = spawn(&self.place).map_err(|error| format!("no second nginx: {error}"))?;
        self.wait_for_workers()
    }

    /// Sets the clock that it sees, so many seconds before or behind the true time.
    pub(crate) fn set_clock(&self, seconds: i64) -> Result<(), String> {
        write_whole(&self.place.prefix.join("clock"), &format!("{seconds}\n"))
            .map_err(|error| format!("the clock cannot be set: {error}"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.place.prefix.join("logs")
    }

    /// Its living workers, including those that are about to end after a reload.
    pub(crate) fn all_workers(&self) -> Vec<i32> {
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        let mut workers: Vec<i32> = processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|&pid| self.is_ours(pid))
            .collect();
        workers.sort_unstable();
        workers
    }

    /// Its workers that serve.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let mut workers = self.all_workers();
        workers.retain(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                line.starts_with(b"nginx: worker process")
                    && !line.windows(8).any(|window| window == b"shutting")
            })
        });
        workers
    }

    /// A child of this nginx's master that is not a zombie.
    fn is_ours(&self, pid: i32) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        let Some((_, rest)) = stat.rsplit_once(')') else { return false };
        let mut fields = rest.split_whitespace();
        let state = fields.next();
        let parent = fields.next().and_then(|text| text.parse().ok());
        parent == Some(self.master.id()) && state != Some("Z")
    }

    /// Sends SIGKILL. False if the process was gone already.
    pub(crate) fn kill(&mut self, pid: i32) -> bool {
        let done = self.signal(pid, Signal::KILL);
        if done {
            self.killed.insert(pid);
        }
        done
    }

    /// Sends a signal to one of its own workers, and to no other process.
    pub(crate) fn signal(&self, pid: i32, signal: Signal) -> bool {
        self.is_ours(pid) && Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Whether each of these is still one of its workers.
    pub(crate) fn has_all(&self, workers: &[i32]) -> bool {
        workers.iter().all(|&pid| self.is_ours(pid))
    }

    /// Whether we have killed that worker.
    pub(crate) fn has_killed(&self, pid: i32) -> bool {
        self.killed.contains(&pid)
    }

    pub(crate) fn kills(&self) -> usize {
        self.killed.len()
    }

    fn signal_master(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.master.id() as i32) {
            // It is our child and has not been waited for, so the number is not reused.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks the master to take a configuration.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), String> {
        write_config(&self.place, self.port, config)
            .map_err(|error| format!("no configuration: {error}"))?;
        self.signal_master(Signal::HUP);
        Ok(())
    }

    /// One request on a connection of its own; tries again if a worker dies before it answers.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Response, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.try_ask(method, path, body) {
                Ok(response) => return Ok(response),
                Err(error) if Instant::now() > end => return Err(format!("{path}: {error}")),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn try_ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Response, String> {
        let tell = |error: io::Error| error.to_string();
        let mut stream = TcpStream::connect(self.address()).map_err(tell)?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(tell)?;
        let length = body.len();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: torture\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request).map_err(tell)?;
        let mut response = Response::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = stream.read(&mut buffer).map_err(tell)?;
            if count == 0 {
                let done = response.ends_here();
                return if done { Ok(response) } else { Err("cut".to_owned()) };
            }
            response.feed(&buffer[..count]).map_err(|error| error.to_string())?;
            if response.is_done() {
                return Ok(response);
            }
        }
    }

    /// Stops it in the orderly way, and returns the lines that its logs must not have; see
    /// [`Nginx::bad_lines`].
    pub(crate) fn stop(&mut self, caused: &[&str]) -> Result<Vec<String>, String> {
        self.signal_master(Signal::QUIT);
        let end = Instant::now() + PATIENCE;
        while self.master.try_wait().map_err(|error| error.to_string())?.is_none() {
            if Instant::now() > end {
                return Err("nginx does not quit".to_owned());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(self.bad_lines(caused))
    }

    /// Lines of the error log about faults that we did not cause. `caused` has texts of those that we did.
    pub(crate) fn bad_lines(&self, caused: &[&str]) -> Vec<String> {
        self.bad_lines_since(&mut 0, caused)
    }

    /// The same for the log after the first `read` bytes; moves `read` forward.
    pub(crate) fn bad_lines_since(&self, read: &mut u64, caused: &[&str]) -> Vec<String> {
        let mut log = Vec::new();
        // A log that cannot be read does not exist yet.
        let _ = fs::File::open(self.logs().join("error.log")).and_then(|mut file| {
            file.seek(SeekFrom::Start(*read))?;
            file.read_to_end(&mut log)
        });
        // The last line may be incomplete.
        log.truncate(log.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
        *read += log.len() as u64;
        let log = String::from_utf8_lossy(&log);
        let bad = ["[alert]", "[emerg]", "[crit]", "open socket", "panic"];
        log.lines()
            .filter(|line| bad.iter().any(|word| line.contains(word)))
            .filter(|line| {
                !self.is_our_kill(line) && !caused.iter().any(|text| line.contains(text))
            })
            .map(str::to_owned)
            .collect()
    }

    fn is_our_kill(&self, line: &str) -> bool {
        line.split_once("worker process ")
            .and_then(|(_, rest)| rest.split_once(" exited on signal 9"))
            .and_then(|(pid, _)| pid.parse().ok())
            .is_some_and(|pid| self.killed.contains(&pid))
    }
}

impl Nginx {
    /// Kills all of its processes.
    fn slay(&mut self) {
        if !matches!(self.master.try_wait(), Ok(None)) {
            return;
        }
        // It is stopped first: then it starts no new workers, and is still the parent that `signal` looks for.
        self.signal_master(Signal::STOP);
        let end = Instant::now() + PATIENCE;
        loop {
            let workers = self.all_workers();
            for &pid in &workers {
                let _ = self.signal(pid, Signal::KILL);
            }
            if workers.is_empty() || Instant::now() > end {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.slay();
    }
}

fn spawn(place: &Place) -> io::Result<Child> {
    let output = fs::File::create(place.prefix.join("logs/output"))?;
    let mut command = Command::new(&place.binary);
    command
        .arg("-p")
        .arg(&place.prefix)
        .args(["-c", "nginx.conf", "-e", "logs/error.log"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output);
    if let Some(library) = &place.clock {
        command.env("LD_PRELOAD", library).env("TEST_SET_CLOCK", place.prefix.join("clock"));
    }
    command.spawn()
}

/// The descriptors and the kilobytes of private memory of a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerState {
    pub(crate) files: usize,
    pub(crate) own_kb: u64,
}

/// The largest of all workers.
pub(crate) fn worker_state(nginx: &Nginx) -> WorkerState {
    let states = nginx.workers().into_iter().map(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let own_kb = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        WorkerState { files, own_kb }
    });
    states.fold(WorkerState { files: 0, own_kb: 0 }, |most, state| WorkerState {
        files: most.files.max(state.files),
        own_kb: most.own_kb.max(state.own_kb),
    })
}

fn write_config(place: &Place, port: u16, config: &Config) -> io::Result<()> {
    let Config { main, http } = config;
    let module = place.module.display();
    // As root, the workers would run as a user who may not reach a prefix in a home directory.
    let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("    {what}_temp_path temp/{what};\n"))
        .collect();
    let text = format!(
        "load_module \"{module}\";\n{user}\ndaemon off;\npid logs/nginx.pid;\n\
         error_log logs/error.log notice;\n{main}\nhttp {{\n    access_log off;\n{paths}\n{http}\n}}\n"
    );
    write_whole(&place.prefix.join("nginx.conf"), &text.replace("%PORT%", &port.to_string()))
}

/// By rename, so that nginx never reads half a file.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}
