//! The calls to the system that std does not have. All of the crate's `unsafe` is here and in `tls`.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

// ---- time

/// Nanoseconds of the monotonic clock, which all processes of the machine share.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

// ---- files and processors

/// Lets this process and its children open as many files as the system allows, and returns the number.
pub(crate) fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid limit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_cur)
}

fn cpu_set(cpus: &[usize]) -> libc::cpu_set_t {
    // SAFETY: a `cpu_set_t` is an array of bits, and all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: `cpu` is below the size of the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    set
}

/// The processors that this process may use.
pub(crate) fn cpus() -> Vec<usize> {
    let mut set = cpu_set(&[]);
    // SAFETY: `set` is a valid place of that size for the answer.
    unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    // SAFETY: each number is below the size of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Keeps this process, and the children that it starts from now on, on these processors.
pub(crate) fn pin(cpus: &[usize]) -> io::Result<()> {
    let set = cpu_set(cpus);
    // SAFETY: `set` is a valid set of that size.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }).map(drop)
}

/// Makes the program that `command` starts run on these processors, and end when this process ends.
pub(crate) fn pin_command(command: &mut Command, cpus: &[usize]) {
    let set = cpu_set(cpus);
    let start = move || {
        // SAFETY: `set` is a valid set of that size.
        check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) })?;
        // SAFETY: no pointers are involved.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) })?;
        Ok(())
    };
    // SAFETY: `start` makes two system calls and allocates nothing, which is allowed between fork and exec.
    unsafe { command.pre_exec(start) };
}

// ---- processes

/// A copy of this process that runs `body` and ends. Killed and reaped when it is dropped.
pub(crate) struct Fork(libc::pid_t);

impl Fork {
    /// This process must have one thread only. `body` returns the exit status.
    pub(crate) fn start(body: impl FnOnce() -> i32) -> io::Result<Self> {
        // SAFETY: this process has one thread (see above), so its copy may do anything.
        match check(unsafe { libc::fork() })? {
            0 => {
                // SAFETY: no pointers are involved.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let status = body();
                // SAFETY: ends the process without running the parent's destructors.
                unsafe { libc::_exit(status) }
            }
            pid => Ok(Self(pid)),
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        // SAFETY: it is a child that nobody has reaped, so the number is still its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(self.0, ptr::null_mut(), 0) };
    }
}

/// Sends SIGTERM to a child of this process that has not been waited for.
pub(crate) fn terminate(child: &std::process::Child) {
    // SAFETY: no pointers are involved. The number is the child's own until it has been waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
}

/// Waits for a child, and returns how it ended and its largest resident memory in bytes.
///
/// The system counts the memory of this process as the child's until it has started its program.
pub(crate) fn wait_with_memory(child: &std::process::Child) -> io::Result<(ExitStatus, u64)> {
    use std::os::unix::process::ExitStatusExt;
    // SAFETY: all zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let mut status = 0;
    let pid = child.id() as libc::pid_t;
    // SAFETY: `status` and `usage` are valid places for the answers.
    check(unsafe { libc::wait4(pid, &mut status, 0, &mut usage) })?;
    Ok((ExitStatus::from_raw(status), usage.ru_maxrss as u64 * 1024))
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    // SAFETY: no pointers are involved.
    unsafe { libc::geteuid() == 0 }
}

/// Counters in memory that this process shares with its forks. They begin with zero.
pub(crate) struct Shared {
    start: NonNull<AtomicU64>,
    len: usize,
}

impl Shared {
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let bytes = len.max(1) * size_of::<AtomicU64>();
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the system puts it.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }
}

impl Deref for Shared {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has that many words, starts as zero, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let bytes = self.len.max(1) * size_of::<AtomicU64>();
        // SAFETY: `new` made this mapping, and all borrows of it have ended.
        unsafe { libc::munmap(self.start.as_ptr().cast(), bytes) };
    }
}

// ---- sockets

fn address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

const ADDRESS_LEN: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn set_option<T>(fd: RawFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for `len` bytes; the system checks whether it fits the option.
    check(unsafe { libc::setsockopt(fd, level, name, ptr::from_ref(value).cast(), len) }).map(drop)
}

fn new_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are involved.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Begins a connection from this local address.
pub(crate) fn connect(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = new_socket()?;
    let fd = socket.as_raw_fd();
    // The port is chosen when the destination is known, so each source has all ports for each destination.
    set_option(fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1_i32)?;
    let from = address(SocketAddrV4::new(from, 0));
    // SAFETY: `from` is a valid address of that length.
    check(unsafe { libc::bind(fd, ptr::from_ref(&from).cast(), ADDRESS_LEN) })?;
    let to = address(to);
    // SAFETY: `to` is a valid address of that length.
    match check(unsafe { libc::connect(fd, ptr::from_ref(&to).cast(), ADDRESS_LEN) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from(socket)),
    }
}

/// Makes `close` reset the connection, so that its port is free at once.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // It can only fail for what is no socket.
    let _ = set_option(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

pub(crate) fn listen(at: SocketAddrV4, backlog: i32) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    let fd = socket.as_raw_fd();
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1_i32)?;
    let at = address(at);
    // SAFETY: `at` is a valid address of that length.
    check(unsafe { libc::bind(fd, ptr::from_ref(&at).cast(), ADDRESS_LEN) })?;
    // SAFETY: no pointers are involved.
    check(unsafe { libc::listen(fd, backlog) })?;
    Ok(socket)
}

/// The next connection, non-blocking, in one system call.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<TcpStream> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let none = ptr::null_mut();
    // SAFETY: the peer's address is not asked for.
    let fd = check(unsafe { libc::accept4(listener.as_raw_fd(), none, ptr::null_mut(), flags) })?;
    // SAFETY: a new descriptor, which nothing else owns.
    Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

// ---- events

/// An epoll, level-triggered.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// One descriptor that is ready.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    /// There are bytes, the end, or an error.
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are involved.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: a new descriptor, which nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: Vec::with_capacity(512) })
    }

    fn control(
        &self,
        operation: c_int,
        fd: &impl AsRawFd,
        token: u64,
        write: bool,
    ) -> io::Result<()> {
        let events = libc::EPOLLIN | if write { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        let (epoll, fd) = (self.fd.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: `event` is a valid event, which the system copies.
        check(unsafe { libc::epoll_ctl(epoll, operation, fd, &mut event) }).map(drop)
    }

    /// Reports when `fd` can be read and, if `write`, when it can be written. Closing `fd` ends it.
    pub(crate) fn add(&self, fd: &impl AsRawFd, token: u64, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, write)
    }

    pub(crate) fn change(&self, fd: &impl AsRawFd, token: u64, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, write)
    }

    pub(crate) fn remove(&self, fd: &impl AsRawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, false)
    }

    /// Waits at most that long (-1: without end). [`Epoll::ready`] has what is ready.
    pub(crate) fn wait(&mut self, timeout_msec: i32) -> io::Result<usize> {
        self.events.clear();
        let (room, start) = (self.events.capacity() as c_int, self.events.as_mut_ptr());
        // SAFETY: there is room for that many events.
        let result =
            check(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), start, room, timeout_msec) });
        let len = match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other? as usize,
        };
        // SAFETY: the system has filled in that many.
        unsafe { self.events.set_len(len) };
        Ok(len)
    }

    pub(crate) fn ready(&self, index: usize) -> Ready {
        let event = self.events[index];
        let events = event.events as c_int;
        Ready {
            token: event.u64,
            readable: events & !libc::EPOLLOUT != 0,
            writable: events & libc::EPOLLOUT != 0,
        }
    }
}

/// A descriptor through which a process wakes another one.
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are involved.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        // SAFETY: a new descriptor, which nothing else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight readable bytes. A full counter rings as well.
        unsafe { libc::write(self.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub(crate) fn silence(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: eight writable bytes. Nothing to read is as good.
        unsafe { libc::read(self.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

// ---- searching

/// Where the byte is, by the C library, which uses wide registers.
pub(crate) fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    // SAFETY: `bytes` is readable for its length.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), c_int::from(byte), bytes.len()) };
    (!found.is_null()).then(|| found as usize - bytes.as_ptr() as usize)
}
