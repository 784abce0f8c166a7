//! The task of a generator: requests, sizes and numbers.

use std::net::SocketAddrV4;

use crate::decoder::Mode;

/// Header lines of a poll that asks for everything that is stored.
pub(crate) const FROM_THE_START: &str =
    "If-Modified-Since: Thu, 01 Jan 1970 00:00:01 GMT\r\nIf-None-Match: 0\r\n";

/// A request with `{channel}` in its path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    path: String,
    /// Header lines, each with its line end.
    headers: String,
}

impl Request {
    pub(crate) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), headers: String::new() }
    }

    fn begin(&self, method: &str, channel: u32) -> String {
        let path = self.path.replace("{channel}", &format!("bench-{channel}"));
        format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n{}", self.headers)
    }
}

/// When the next message is published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// As soon as the last one of its lane is acknowledged and the channel's window allows it.
    Acknowledged,
    /// So many a second over all lanes. The time in a message is the time when it was due.
    Rate(f64),
    /// One in each lane at once, and the next ones when all subscribers have all of them.
    Bursts,
}

/// All that the processes of a generator know from the start.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) server: SocketAddrV4,
    /// Subscribers speak TLS.
    pub(crate) tls: bool,
    /// Where subscribers connect to, if not to `server`.
    pub(crate) subscribe_at: SocketAddrV4,
    pub(crate) publish: Request,
    pub(crate) subscribe: Request,
    pub(crate) mode: Mode,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) channels: u32,
    /// For each channel.
    pub(crate) subscribers: u32,
    /// Sequences of messages, for each channel.
    pub(crate) lanes: u32,
    /// Messages of a channel that may be on their way to some of its subscribers.
    pub(crate) window: u32,
    /// Connections, which all lanes share.
    pub(crate) publishers: u32,
    /// Old messages that a subscriber gets first.
    pub(crate) backlog: u32,
    /// The id with which subscribers connect that have none of their own.
    pub(crate) resume: Option<String>,
    /// The number of the first message.
    pub(crate) first: u32,
    /// Publishers give each message an event id, because the server makes none.
    pub(crate) event_ids: bool,
    /// Connections that are being opened at the same time, for each process.
    pub(crate) opening_max: usize,
    /// Connections that the server did not take are begun again.
    pub(crate) retry: bool,
    /// The processors of each process of the generator. Empty: any.
    pub(crate) processes: Vec<Vec<usize>>,
}

impl Plan {
    pub(crate) fn all_subscribers(&self) -> usize {
        self.channels as usize * self.subscribers as usize
    }

    pub(crate) fn all_lanes(&self) -> u32 {
        self.channels * self.lanes
    }

    pub(crate) fn channel_of(&self, lane: u32) -> u32 {
        lane / self.lanes
    }

    /// The head of a publish. The message follows.
    pub(crate) fn publish_head(&self, lane: u32, number: u32) -> String {
        let mut head = self.publish.begin("POST", self.channel_of(lane));
        if self.event_ids {
            head.push_str(&format!("Event-Id: {lane}.{number}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.size));
        head
    }

    /// The request of a subscriber, which has got the message with this id last.
    pub(crate) fn subscription(&self, channel: u32, id: Option<&str>) -> String {
        let mut head = self.subscribe.begin("GET", channel);
        match self.mode {
            Mode::WebSocket => head.push_str(
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ),
            Mode::EventSource => {
                head.push_str("Accept: text/event-stream\r\n");
                if let Some(id) = id {
                    head.push_str(&format!("Last-Event-ID: {id}\r\n"));
                }
            }
            // The id is header lines, as `decoder` makes them.
            Mode::LongPolling => head.push_str(id.unwrap_or("")),
            Mode::Streaming => (),
        }
        head.push_str("\r\n");
        head
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan(mode: Mode) -> Plan {
        let server = "127.0.0.1:80".parse().unwrap();
        Plan {
            server,
            tls: false,
            subscribe_at: server,
            publish: Request::new("/pub?id={channel}"),
            subscribe: Request::new("/sub?id={channel}"),
            mode,
            size: 64,
            channels: 2,
            subscribers: 3,
            lanes: 2,
            window: 1,
            publishers: 1,
            backlog: 0,
            resume: None,
            first: 0,
            event_ids: true,
            opening_max: 10,
            retry: false,
            processes: vec![Vec::new()],
        }
    }

    #[test]
    fn requests() {
        let plan = plan(Mode::EventSource);
        assert_eq!((plan.all_subscribers(), plan.all_lanes(), plan.channel_of(3)), (6, 4, 1));
        assert_eq!(
            plan.publish_head(3, 9),
            "POST /pub?id=bench-1 HTTP/1.1\r\nHost: bench\r\nEvent-Id: 3.9\r\nContent-Length: 64\r\n\r\n"
        );
        assert_eq!(
            plan.subscription(1, Some("7")),
            "GET /sub?id=bench-1 HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\nLast-Event-ID: 7\r\n\r\n"
        );
    }
}
