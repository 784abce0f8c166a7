//! Made-up HTTP requests: right ones, or with some errors.

use crate::random::Random;

use super::locations::{ABOUT, MARKED, PUBLISHERS, SUBSCRIBERS};

/// One request.
pub(super) fn request(random: &mut Random, sound: bool) -> Vec<u8> {
    let publishes = random.one_in(2);
    let place = match random.index(8) {
        0 => pick(random, &ABOUT),
        1 if !sound => pick(random, &["/", "/nothing", "", "*", "/ws", "/watch"]),
        _ if publishes => pick(random, &PUBLISHERS),
        _ => pick(random, &SUBSCRIBERS),
    };
    let method = match random.index(12) {
        0 => pick(random, &["OPTIONS", "DELETE", "PATCH"]),
        1 => "GET",
        2 if !sound => pick(random, &["HEAD", "get", "G\tET", "CONNECT", "TRACE", ""]),
        _ if !publishes => "GET",
        3..5 => "PUT",
        5 => "DELETE",
        _ => "POST",
    };
    let ids = channels(random, sound);
    let target = match SUBSCRIBERS.contains(&place) && random.one_in(3) {
        true => format!("{place}/{ids}"),
        false => format!("{place}?id={ids}"),
    };
    let version = match random.index(10) {
        0 => "HTTP/1.0",
        1 if !sound => pick(random, &["HTTP/0.9", "HTTP/1.2", "HTTP/9", "http/1.1", ""]),
        _ => "HTTP/1.1",
    };
    let arguments = if target.contains('?') { arguments(random) } else { String::new() };
    let mut head = format!("{method} {target}{arguments} {version}\r\n");
    if sound || !random.one_in(8) {
        head += "Host: localhost\r\n";
    }
    head += &headers(random, sound);
    let mut body = Vec::new();
    if matches!(method, "POST" | "PUT" | "DELETE" | "PATCH") || (!sound && random.one_in(6)) {
        body = payload(random);
        if version == "HTTP/1.1" && random.one_in(3) {
            head += "Transfer-Encoding: chunked\r\n";
            body = chunked(random, &body, sound);
        } else {
            let lie = if !sound && random.one_in(4) { random.index(7) as i64 - 3 } else { 0 };
            head += &format!("Content-Length: {}\r\n", body.len() as i64 + lie);
        }
        if sound && random.one_in(10) {
            head += "Expect: 100-continue\r\n";
        }
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    bytes.append(&mut body);
    bytes
}

fn chunked(random: &mut Random, body: &[u8], sound: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(random.between(1, rest.len() as u64) as usize);
        rest = after;
        let size = match sound || !random.one_in(10) {
            true => format!("{:x}", chunk.len()),
            false => pick(random, &["", "-1", "0", "fffffffffffffffff", "g", "0x5"]).to_owned(),
        };
        let extension = if random.one_in(6) { ";name=\"value\"" } else { "" };
        bytes.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(if sound || !random.one_in(10) { b"\r\n" } else { b"\n\n" });
    }
    bytes.extend_from_slice(if sound || !random.one_in(6) {
        b"0\r\n\r\n"
    } else {
        b"0\r\nT: t\r\n\r\n"
    });
    bytes
}

/// The channels of a request, with backtracks, as they are written in a query or a path.
pub(super) fn channels(random: &mut Random, sound: bool) -> String {
    let mut text = String::new();
    for n in 0..if random.one_in(4) { random.between(1, 5) } else { 1 } {
        if n > 0 {
            text.push('/');
        }
        text += match random.index(16) {
            0..8 => pick(random, &["a", "b", "c", "d", "e", "f"]),
            8..11 => MARKED[random.index(MARKED.len())],
            11 => pick(random, &["w_1", "w_2", "w_"]),
            12 => "events",
            13 => pick(random, &["ALL", "%C3%A9", "a%20b", "%61", "x.b", "a.b.c", "-"]),
            14 if !sound => {
                pick(random, &["", "%", "%0", "%00", "..", "*", "a*b", "%2F%2f", "\u{e9}"])
            }
            _ => {
                "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long"
            }
        };
        if random.one_in(3) {
            text += pick(random, &[".b1", ".b2", ".b10", ".b0", ".b999999999", ".b", ".bx"]);
        }
    }
    text
}

/// Headers that the module reads, and some that nginx reads.
pub(super) fn headers(random: &mut Random, sound: bool) -> String {
    const READ: [&str; 17] = [
        "If-Modified-Since: Thu, 01 Jan 1970 00:00:01 GMT",
        "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",
        "If-Modified-Since: yesterday",
        "If-None-Match: 0",
        "If-None-Match: W/18446744073709551615",
        "If-None-Match: 99999999999999999999",
        "Last-Event-Id: e1",
        "Event-Id: e1",
        "Event-Id: ",
        "Event-Type: t",
        "X-Nginx-PushStream-Mode: long-polling",
        "X-Nginx-PushStream-Mode: polling",
        "Origin: http://example.com",
        "User-Agent: Fuzz",
        "User-Agent: Mozilla/5.0",
        "Accept-Encoding: gzip",
        "Accept: text/html",
    ];
    const WRONG: [&str; 12] = [
        "Content-Length: 3",
        "Content-Length: -1",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "no colon",
        ": no name",
        " folded",
        "Host: twice",
        "Upgrade: websocket",
        "Connection: Upgrade, close, keep-alive",
        "Expect: 100-continue",
        "Range: bytes=0-1,3-",
    ];
    let mut text = String::new();
    for _ in 0..random.index(4) {
        text += pick(random, &READ);
        text += "\r\n";
    }
    if random.one_in(8) {
        text += "Connection: close\r\n";
    }
    if !sound && random.one_in(2) {
        text += pick(random, &WRONG);
        text += pick(random, &["\r\n", "\r\n", "\r\n", "\n", "\r"]);
    }
    if !sound && random.one_in(20) {
        text += &format!("X-Long: {}\r\n", "l".repeat(random.between(200, 6000) as usize));
    }
    text
}

/// The text after the path.
pub(super) fn arguments(random: &mut Random) -> String {
    match random.index(12) {
        0 => "&callback=cb".to_owned(),
        1 => format!("&callback={}", pick(random, &["a.b%5B0%5D", "%3Cscript%3E", "", "$"])),
        2 => format!("&tests={}", random.index(3)),
        3 => format!("&time={}&tag={}", pick(random, &["0", "x", "Thu%2C+01"]), random.index(4)),
        4 => "&eid=e1&ua=Fuzz".to_owned(),
        5 => "&qs=&&=&id=b".to_owned(),
        _ => String::new(),
    }
}

pub(super) fn payload(random: &mut Random) -> Vec<u8> {
    let len = match random.index(40) {
        0 => 0,
        1..30 => random.between(1, 60),
        30..37 => random.between(60, 2000),
        37..39 => random.between(2000, 20_000),
        _ => random.between(20_000, 70_000),
    };
    let mut bytes = vec![0; len as usize];
    random.fill(&mut bytes);
    if random.one_in(2) {
        bytes.iter_mut().for_each(|byte| *byte = b' ' + *byte % 95);
    }
    bytes
}

/// One of them.
pub(super) fn pick<'a>(random: &mut Random, all: &[&'a str]) -> &'a str {
    all[random.index(all.len())]
}
