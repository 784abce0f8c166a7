//! The servers that are compared, and how each of them is set up.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::decoder::Mode;
use crate::plan::{FROM_THE_START, Request};
use crate::{proc, sys};

/// The kinds of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A build of this module, or of one that has the same directives.
    PushStream {
        module: PathBuf,
    },
    Nchan {
        module: PathBuf,
    },
    /// This module with a configuration of `nginx-conf/` that has the locations of `nginx-conf/demo.conf`.
    Shipped {
        module: PathBuf,
        file: PathBuf,
    },
    /// The bare server of this program.
    Floor {
        merges: bool,
    },
    /// Any server that runs already.
    Other {
        publish: String,
        subscribe: String,
        mode: Mode,
        pid: Option<i32>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// The setting that a scenario needs.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) workers: usize,
    /// The processors of the workers.
    pub(crate) cpus: Vec<usize>,
    pub(crate) connections: usize,
    /// Whether published messages are stored, and how many of each channel.
    pub(crate) stores: bool,
    pub(crate) stored_max: u32,
    /// Bytes of shared memory.
    pub(crate) zone: u64,
    pub(crate) tls: bool,
    /// Program and arguments in front of nginx's own. nginx then is a single process.
    pub(crate) under: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: 1,
            cpus: Vec::new(),
            connections: 18_500,
            stores: false,
            stored_max: 100,
            zone: 256 << 20,
            tls: false,
            under: Vec::new(),
        }
    }
}

/// A server that runs. Ended when it is dropped.
pub(crate) struct Server {
    child: Option<Child>,
    /// The processes whose time and memory count.
    pub(crate) pids: Vec<i32>,
    pub(crate) address: SocketAddrV4,
    pub(crate) tls_address: SocketAddrV4,
    log: Option<PathBuf>,
}

/// Where programs and files are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) nginx: PathBuf,
    /// For configurations and logs.
    pub(crate) work: PathBuf,
}

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

impl Peer {
    /// Whether this is the one that the targets are about.
    pub(crate) fn is_subject(&self) -> bool {
        self.name == crate::OURS
    }

    pub(crate) fn is_nginx(&self) -> bool {
        matches!(self.kind, Kind::PushStream { .. } | Kind::Nchan { .. })
    }

    /// Publishers have to name an event id if subscribers want to resume by one.
    pub(crate) fn wants_event_ids(&self) -> bool {
        matches!(self.kind, Kind::PushStream { .. })
    }

    /// The request of a publisher.
    pub(crate) fn publish(&self) -> Request {
        match &self.kind {
            Kind::Other { publish, .. } => Request::new(path_of(publish)),
            _ => Request::new("/pub?id={channel}"),
        }
    }

    /// The request of a subscriber in this mode, which wants the last messages first if `backlog` is not 0.
    pub(crate) fn subscribe(&self, mode: Mode, backlog: u32) -> Request {
        let location = match mode {
            Mode::Streaming => "s",
            Mode::EventSource => "e",
            Mode::WebSocket => "w",
            Mode::LongPolling => "l",
        };
        match &self.kind {
            Kind::Other { subscribe, .. } => Request::new(path_of(subscribe)),
            Kind::Shipped { .. } => {
                let location = match mode {
                    Mode::Streaming => "sub",
                    Mode::EventSource => "ev",
                    Mode::WebSocket => "ws",
                    Mode::LongPolling => "lp",
                };
                Request::new(&format!("/{location}/{{channel}}"))
            }
            Kind::PushStream { .. } if backlog > 0 => {
                Request::new(&format!("/{location}?id={{channel}}.b{backlog}"))
            }
            // From the oldest message, as `first_poll` says.
            Kind::Nchan { .. } if mode == Mode::LongPolling => Request::new("/l10?id={channel}"),
            Kind::Nchan { .. } | Kind::Floor { .. } if backlog > 0 => {
                Request::new(&format!("/{location}10?id={{channel}}"))
            }
            _ => Request::new(&format!("/{location}?id={{channel}}")),
        }
    }

    /// The id that a subscriber sends in its first request. Polls ask for everything that is stored, so it does not matter
    /// whether the server gets the first one before the first message or after it.
    pub(crate) fn first_poll(&self, mode: Mode) -> Option<String> {
        // nchan's workers crash if they are asked so for a channel that is not there. It has a location for it.
        let asks = mode == Mode::LongPolling && !matches!(self.kind, Kind::Nchan { .. });
        asks.then(|| FROM_THE_START.to_owned())
    }

    /// Starts it with files in a directory of its own.
    pub(crate) fn start(&self, places: &Places, setup: &Setup) -> Result<Server, String> {
        let tell = |error: io::Error| format!("{}: {error}", self.name);
        if let Kind::Other { publish, pid, .. } = &self.kind {
            let address = address_of(publish)?;
            let pids = pid.iter().copied().collect();
            return Ok(Server { child: None, pids, address, tls_address: address, log: None });
        }
        let directory = places.work.join(&self.name);
        let (address, tls_address) = (free_address().map_err(tell)?, free_address().map_err(tell)?);
        let (mut command, log) = match &self.kind {
            Kind::Floor { merges } => {
                let own = std::env::current_exe().map_err(tell)?;
                let mut command = Command::new(own);
                command.arg("floor").arg(address.to_string());
                command.arg(if *merges { "merging" } else { "bare" });
                (command, None)
            }
            _ => {
                let log = directory.join("error.log");
                let text = match &self.kind {
                    Kind::Shipped { module, file } => {
                        let text = fs::read_to_string(file).map_err(tell)?;
                        shipped(&text, module, address, setup.workers)
                    }
                    _ => self.configuration(address, tls_address, setup),
                };
                write_files(&directory, &text).map_err(tell)?;
                let _ = fs::remove_file(&log);
                let words: Vec<_> = setup.under.iter().map(Into::into).collect();
                let words = [words, vec![places.nginx.clone().into_os_string()]].concat();
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]).arg("-p").arg(&directory);
                command.args(["-c", "nginx.conf", "-e", "error.log"]);
                (command, Some(log))
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if log.is_some() {
            let output = fs::File::create(directory.join("output")).map_err(tell)?;
            command.stderr(output);
        }
        if !setup.cpus.is_empty() {
            sys::pin_command(&mut command, &setup.cpus);
        }
        let child = command.spawn().map_err(tell)?;
        let single = log.is_none() || !setup.under.is_empty();
        let pid = child.id() as i32;
        let mut server = Server { child: Some(child), pids: vec![pid], address, tls_address, log };
        let end = Instant::now() + PATIENCE;
        loop {
            if !single {
                server.pids = proc::children(pid);
            }
            let complete = single || server.pids.len() == setup.workers;
            if complete && TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            let ended = server.child.as_mut().is_some_and(|it| !matches!(it.try_wait(), Ok(None)));
            if ended || Instant::now() > end {
                return Err(format!("{} did not start: see {}", self.name, directory.display()));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Writes the configuration without starting anything, and returns its directory.
    pub(crate) fn prepare(&self, places: &Places, setup: &Setup) -> Result<PathBuf, String> {
        let tell = |error: io::Error| format!("{}: {error}", self.name);
        let directory = places.work.join(&self.name);
        let address = free_address().map_err(tell)?;
        let text = self.configuration(address, address, setup);
        write_files(&directory, &text).map_err(tell)?;
        Ok(directory)
    }

    fn configuration(&self, at: SocketAddrV4, tls_at: SocketAddrV4, setup: &Setup) -> String {
        let Setup { workers, connections, .. } = setup;
        let module = match &self.kind {
            Kind::PushStream { module } | Kind::Nchan { module } => module.display().to_string(),
            _ => String::new(),
        };
        let user = if sys::is_root() { "user root;\n" } else { "" };
        let affinity = if *workers > 1 && setup.cpus.len() == *workers {
            let mask = |&cpu: &usize| format!("1{}", "0".repeat(cpu));
            let masks: Vec<_> = setup.cpus.iter().map(mask).collect();
            format!("worker_cpu_affinity {};\n", masks.join(" "))
        } else {
            String::new()
        };
        let single = if setup.under.is_empty() { "" } else { "master_process off;\n" };
        // With several workers, each has a queue of its own, so that all of them get as many connections.
        let reuse = if *workers > 1 { " reuseport" } else { "" };
        let tls = if setup.tls {
            format!(
                "listen {tls_at} ssl backlog=4096{reuse};\n\
                 ssl_certificate certificate.pem;\nssl_certificate_key key.pem;\n"
            )
        } else {
            String::new()
        };
        let body = match &self.kind {
            Kind::Nchan { .. } => nchan(setup),
            _ => push_stream(setup),
        };
        format!(
            "load_module {module};\n{user}daemon off;\n{single}worker_processes {workers};\n{affinity}\
             pid nginx.pid;\nerror_log error.log warn;\n\
             events {{ worker_connections {connections}; }}\n\
             http {{\naccess_log off;\nkeepalive_requests 1000000000;\nkeepalive_timeout 1h;\n\
             client_header_timeout 1h;\nclient_max_body_size 1m;\n\
             client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp;\n\
             uwsgi_temp_path temp; scgi_temp_path temp;\n{}\
             server {{\nlisten {at} backlog=4096{reuse};\n{tls}{}}}\n}}\n",
            body.0, body.1
        )
    }
}

/// A configuration that people use, changed so that it runs here with so many workers.
fn shipped(text: &str, module: &Path, at: SocketAddrV4, workers: usize) -> String {
    let user = if sys::is_root() { "user root;\n" } else { "" };
    let module = module.display();
    let mut own = format!(
        "load_module {module};\n{user}daemon off;\nworker_processes {workers};\n\
         pid nginx.pid;\nerror_log error.log warn;\n"
    );
    let at = format!("{at}{}", if workers > 1 { " reuseport" } else { "" });
    let ours = ["load_module", "user", "daemon", "worker_processes", "pid", "error_log"];
    for line in text.lines() {
        let word = line.split_whitespace().next().unwrap_or("");
        if !ours.contains(&word) {
            own.push_str(&line.replace("127.0.0.1:9080", &at));
            own.push('\n');
        }
    }
    own
}

/// The lines for `http` and those for the server.
fn push_stream(setup: &Setup) -> (String, String) {
    let stores = if setup.stores { "on" } else { "off" };
    let http = format!(
        "push_stream_shared_memory_size {};\npush_stream_max_messages_stored_per_channel {};\n\
         push_stream_channels_path $arg_id;\npush_stream_message_ttl 1h;\n\
         push_stream_channel_inactivity_time 1h;\n",
        setup.zone, setup.stored_max
    );
    let server = format!(
        "location = /pub {{ push_stream_publisher; push_stream_store_messages {stores}; \
         client_body_buffer_size 64k; }}\n\
         location = /s {{ push_stream_subscriber; push_stream_message_template \"~text~\\n\"; }}\n\
         location = /e {{ push_stream_subscriber eventsource; }}\n\
         location = /w {{ push_stream_subscriber websocket; }}\n\
         location = /l {{ push_stream_subscriber long-polling; \
         push_stream_message_template \"~text~\\n\"; }}\n"
    );
    (http, server)
}

fn nchan(setup: &Setup) -> (String, String) {
    let length = if setup.stores { setup.stored_max } else { 0 };
    let http = format!("nchan_shared_memory_size {};\nnchan_message_timeout 1h;\n", setup.zone);
    let mut server = format!(
        "nchan_channel_id $arg_id;\n\
         location = /pub {{ nchan_publisher; nchan_message_buffer_length {length}; \
         client_body_buffer_size 64k; }}\n"
    );
    for (location, mode) in
        [("s", "http-raw-stream"), ("e", "eventsource"), ("w", "websocket"), ("l", "longpoll")]
    {
        for (end, first) in [("", "newest"), ("10", "oldest")] {
            server.push_str(&format!(
                "location = /{location}{end} {{ nchan_subscriber {mode}; \
                 nchan_subscriber_first_message {first}; }}\n"
            ));
        }
    }
    (http, server)
}

fn write_files(directory: &Path, configuration: &str) -> io::Result<()> {
    fs::create_dir_all(directory.join("temp"))?;
    fs::write(directory.join("nginx.conf"), configuration)?;
    if configuration.contains("ssl_certificate") && !directory.join("certificate.pem").exists() {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "3650", "-subj", "/CN=bench"])
            .args(["-keyout", "key.pem", "-out", "certificate.pem"])
            .current_dir(directory)
            .stdin(Stdio::null())
            .output()?;
        if !made.status.success() {
            return Err(io::Error::other("openssl makes no certificate"));
        }
    }
    Ok(())
}

fn free_address() -> io::Result<SocketAddrV4> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr()?.port()))
}

/// `/path` of `http://address:port/path`.
fn path_of(url: &str) -> &str {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

fn address_of(url: &str) -> Result<SocketAddrV4, String> {
    let rest = url.strip_prefix("http://");
    let authority = rest.and_then(|rest| rest.split('/').next()).unwrap_or("");
    let address = authority.parse::<SocketAddrV4>().ok();
    address
        .filter(|address| address.ip().is_loopback())
        .ok_or_else(|| format!("\"{url}\": not http://127.x.x.x:port/..."))
}

impl Server {
    /// Processor time that it has used, in nanoseconds. `None` if it is not known, or if a process has ended.
    pub(crate) fn cpu(&self) -> Option<u64> {
        if self.pids.is_empty() { None } else { proc::cpu_nsec(&self.pids) }
    }

    /// Memory of all its processes, that which they share counted once.
    pub(crate) fn memory(&self) -> Option<proc::Memory> {
        let mut sum = proc::Memory::default();
        for &pid in &self.pids {
            let memory = proc::memory(pid)?;
            sum.own += memory.own;
            sum.shared = sum.shared.max(memory.shared);
        }
        (!self.pids.is_empty()).then_some(sum)
    }

    /// Waits until it has nothing to do for a moment, at most some seconds.
    pub(crate) fn settle(&self) {
        let end = Instant::now() + Duration::from_secs(5);
        let mut last = self.cpu();
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < end {
            thread::sleep(Duration::from_millis(15));
            let now = self.cpu();
            // Timers of an idle server take some microseconds.
            let idle = now.zip(last).is_none_or(|(now, last)| now - last < 100_000);
            quiet = if idle { quiet + 1 } else { 0 };
            last = now;
        }
    }

    /// Lines of its log that say that something is wrong with it.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let text = self.log.as_ref().and_then(|log| fs::read_to_string(log).ok());
        let text = text.unwrap_or_default();
        let bad = |line: &&str| ["[alert]", "[emerg]", "[crit]"].iter().any(|it| line.contains(it));
        text.lines().filter(bad).map(str::to_owned).collect()
    }

    /// Ends it in an orderly way, and returns whether that worked.
    pub(crate) fn stop(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return true };
        sys::terminate(&child);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Ok(Some(_)) = child.try_wait() {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = "http://127.0.0.1:8080/pub?id={channel}";
        assert_eq!(path_of(url), "/pub?id={channel}");
        assert_eq!(path_of("http://127.0.0.1:8080"), "/");
        assert_eq!(address_of(url), Ok("127.0.0.1:8080".parse().unwrap()));
        for url in ["http://10.0.0.1:80/", "https://127.0.0.1:80/", "http://127.0.0.1/", ""] {
            assert!(address_of(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_shipped_configuration_runs_here() {
        let text = "load_module modules/x.so;\nworker_processes auto;\nhttp {\n    \
                    listen 127.0.0.1:9080;\n}\n";
        let own = shipped(text, Path::new("/x.so"), "127.0.0.1:81".parse().unwrap(), 1);
        assert!(own.starts_with("load_module /x.so;\n"));
        assert!(own.contains("worker_processes 1;\n") && !own.contains("auto"));
        assert!(own.ends_with("http {\n    listen 127.0.0.1:81;\n}\n"));
    }

    #[test]
    fn requests_of_each_kind() {
        let peer = |kind| Peer { name: "x".into(), kind };
        let module = PathBuf::from("x.so");
        let cases = [
            (Kind::PushStream { module: module.clone() }, 0, "/e?id=bench-0"),
            (Kind::PushStream { module: module.clone() }, 10, "/e?id=bench-0.b10"),
            (Kind::Nchan { module }, 10, "/e10?id=bench-0"),
            (Kind::Floor { merges: true }, 0, "/e?id=bench-0"),
        ];
        for (kind, backlog, path) in cases {
            let mut plan = crate::plan::tests::plan(Mode::EventSource);
            plan.subscribe = peer(kind).subscribe(Mode::EventSource, backlog);
            assert!(plan.subscription(0, None).starts_with(&format!("GET {path} HTTP/1.1\r\n")));
        }
    }
}
