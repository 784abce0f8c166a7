//! A TLS client on a non-blocking socket, by the OpenSSL that nginx uses.

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

/// A type of OpenSSL's, known by pointers only.
#[repr(C)]
struct Opaque {
    nothing: [u8; 0],
}

#[link(name = "ssl")]
unsafe extern "C" {
    fn TLS_client_method() -> *const c_void;
    fn SSL_CTX_new(method: *const c_void) -> *mut Opaque;
    fn SSL_CTX_free(context: *mut Opaque);
    fn SSL_CTX_ctrl(context: *mut Opaque, command: c_int, n: c_long, p: *mut c_void) -> c_long;
    fn SSL_new(context: *mut Opaque) -> *mut Opaque;
    fn SSL_free(ssl: *mut Opaque);
    fn SSL_set_fd(ssl: *mut Opaque, fd: c_int) -> c_int;
    fn SSL_set_connect_state(ssl: *mut Opaque);
    fn SSL_read(ssl: *mut Opaque, bytes: *mut c_void, len: c_int) -> c_int;
    fn SSL_write(ssl: *mut Opaque, bytes: *const c_void, len: c_int) -> c_int;
    fn SSL_get_error(ssl: *const Opaque, result: c_int) -> c_int;
}

#[link(name = "crypto")]
unsafe extern "C" {
    fn ERR_clear_error();
}

const SSL_ERROR_WANT_READ: c_int = 2;
const SSL_ERROR_WANT_WRITE: c_int = 3;
const SSL_ERROR_ZERO_RETURN: c_int = 6;
const SSL_CTRL_MODE: c_int = 33;
/// A write may take a part of the bytes and be repeated from another address; idle buffers are freed.
const SSL_MODE: c_long = 1 | 2 | 16;

/// The part that all connections share. It verifies nothing: the server's certificate is its own.
pub(crate) struct Client(NonNull<Opaque>);

impl Client {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the method is a constant of the library.
        let context = unsafe { SSL_CTX_new(TLS_client_method()) };
        let context = NonNull::new(context).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a living context, and a command that takes no pointer.
        unsafe { SSL_CTX_ctrl(context.as_ptr(), SSL_CTRL_MODE, SSL_MODE, ptr::null_mut()) };
        Ok(Self(context))
    }

    pub(crate) fn connection(&self, stream: TcpStream) -> io::Result<Connection> {
        // SAFETY: a living context.
        let ssl = unsafe { SSL_new(self.0.as_ptr()) };
        let ssl = NonNull::new(ssl).ok_or(io::ErrorKind::OutOfMemory)?;
        let connection = Connection { ssl, stream, wants_room: false };
        // SAFETY: a living connection, and the descriptor lives as long as it.
        if unsafe { SSL_set_fd(ssl.as_ptr(), connection.stream.as_raw_fd()) } != 1 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: a living connection.
        unsafe { SSL_set_connect_state(ssl.as_ptr()) };
        Ok(connection)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: ours, and connections count their own references.
        unsafe { SSL_CTX_free(self.0.as_ptr()) };
    }
}

/// One connection. The first write makes the handshake.
pub(crate) struct Connection {
    ssl: NonNull<Opaque>,
    stream: TcpStream,
    wants_room: bool,
}

impl Connection {
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the last call would have gone on if the socket took bytes.
    pub(crate) fn wants_room(&self) -> bool {
        self.wants_room
    }

    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
        // SAFETY: errors of earlier calls on this thread are forgotten.
        unsafe { ERR_clear_error() };
        // SAFETY: a living connection, and `bytes` is writable for `len`.
        let result = unsafe { SSL_read(self.ssl.as_ptr(), bytes.as_mut_ptr().cast(), len) };
        self.outcome(result)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
        // SAFETY: errors of earlier calls on this thread are forgotten.
        unsafe { ERR_clear_error() };
        // SAFETY: a living connection, and `bytes` is readable for `len`.
        let result = unsafe { SSL_write(self.ssl.as_ptr(), bytes.as_ptr().cast(), len) };
        self.outcome(result)
    }

    fn outcome(&mut self, result: c_int) -> io::Result<usize> {
        self.wants_room = false;
        if result > 0 {
            return Ok(result as usize);
        }
        // SAFETY: a living connection, asked right after the call with that result.
        let error = unsafe { SSL_get_error(self.ssl.as_ptr(), result) };
        self.wants_room = error == SSL_ERROR_WANT_WRITE;
        match error {
            SSL_ERROR_WANT_READ | SSL_ERROR_WANT_WRITE => Err(io::ErrorKind::WouldBlock.into()),
            SSL_ERROR_ZERO_RETURN => Ok(0),
            _ => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: ours. The socket is closed after it.
        unsafe { SSL_free(self.ssl.as_ptr()) };
    }
}
