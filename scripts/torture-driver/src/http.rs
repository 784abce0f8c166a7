//! One HTTP/1 response, read as its bytes arrive.

use std::fmt;

/// The bytes are not HTTP.
#[derive(Debug)]
pub(crate) struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Head,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    ToEnd,
    Done,
}

/// A response that is arriving. The bytes of its body are appended to `body`, which the reader may drain.
#[derive(Debug)]
pub(crate) struct Response {
    state: State,
    line: Vec<u8>,
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The head is complete.
    pub(crate) fn has_head(&self) -> bool {
        self.state != State::Head
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Nothing of it has arrived yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.state == State::Head && self.line.is_empty()
    }

    /// `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The connection may be used again after this response.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("keep-alive"))
    }

    /// How many of the bytes belonged to this response: fewer than all if it is complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            let rest = &bytes[at..];
            match self.state {
                State::Head => {
                    let Some(taken) = self.take_until(rest, b"\r\n\r\n") else {
                        if self.line.len() > 64 * 1024 {
                            return Err(Broken("a head without end"));
                        }
                        return Ok(bytes.len());
                    };
                    at += taken;
                    self.state = self.read_head()?;
                }
                State::Length(left) => {
                    let taken = self.take_body(rest, left);
                    at += taken;
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                }
                State::ChunkSize => {
                    let Some(taken) = self.take_until(rest, b"\r\n") else {
                        return Ok(bytes.len());
                    };
                    at += taken;
                    let size = std::str::from_utf8(&self.line[..self.line.len() - 2])
                        .ok()
                        .and_then(|text| u64::from_str_radix(text, 16).ok())
                        .ok_or(Broken("not a chunk size"))?;
                    self.line.clear();
                    self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
                }
                State::Chunk(left) => {
                    let taken = self.take_body(rest, left);
                    at += taken;
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                }
                State::ChunkEnd | State::Trailer => {
                    let Some(taken) = self.take_until(rest, b"\r\n") else {
                        return Ok(bytes.len());
                    };
                    at += taken;
                    if self.line.len() != 2 {
                        return Err(Broken("no line end after a chunk"));
                    }
                    self.line.clear();
                    self.state =
                        if self.state == State::Trailer { State::Done } else { State::ChunkSize };
                }
                State::ToEnd => {
                    self.body.extend_from_slice(rest);
                    at = bytes.len();
                }
                State::Done => {}
            }
        }
        Ok(at)
    }

    /// The connection ended: is that the orderly end of this response?
    pub(crate) fn ends_here(&mut self) -> bool {
        if self.state == State::ToEnd {
            self.state = State::Done;
        }
        self.state == State::Done
    }

    fn take_body(&mut self, bytes: &[u8], left: u64) -> usize {
        let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.body.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Moves bytes into `line` until it ends with `end`.
    fn take_until(&mut self, bytes: &[u8], end: &[u8]) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate() {
            self.line.push(byte);
            if byte == b'\n' && self.line.ends_with(end) {
                return Some(at + 1);
            }
        }
        None
    }

    fn read_head(&mut self) -> Result<State, Broken> {
        let head = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.") {
            return Err(Broken("not a status line"));
        }
        self.status = status
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or(Broken("no status"))?;
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(Broken("not a header line"))?;
            self.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if self.status < 200 || self.status == 204 || self.status == 304 {
            return Ok(State::Done);
        }
        if self.header("transfer-encoding").is_some() {
            return Ok(State::ChunkSize);
        }
        match self.header("content-length") {
            None => Ok(State::ToEnd),
            Some(text) => match text.parse().map_err(|_| Broken("not a length"))? {
                0 => Ok(State::Done),
                length => Ok(State::Length(length)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_chunked_response_in_any_split() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\nHTTP";
        for split in 1..bytes.len() {
            let mut response = Response::new();
            let mut taken = 0;
            for part in bytes.chunks(split) {
                taken += response.feed(part).expect("well formed");
                if response.is_done() {
                    break;
                }
            }
            assert_eq!(taken, bytes.len() - 4);
            assert_eq!(response.body, b"abc0123456789");
        }
    }

    #[test]
    fn knows_an_orderly_end() {
        let mut response = Response::new();
        response.feed(b"HTTP/1.0 200 OK\r\n\r\nab").expect("well formed");
        assert!(response.ends_here());
        let mut response = Response::new();
        response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").expect("well formed");
        assert!(!response.ends_here());
    }
}
