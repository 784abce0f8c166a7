//! Made-up WebSocket connections: a handshake, then frames that keep the rules or do not.

use crate::frames;
use crate::random::Random;

use super::locations::SOCKETS;
use super::requests::{arguments, channels, headers, payload, pick};

/// A handshake and frames after it.
pub(super) fn socket(random: &mut Random, sound: bool) -> Vec<u8> {
    let (place, ids) = (pick(random, &SOCKETS), channels(random, sound));
    let mut head = match random.one_in(3) {
        true => format!("GET {place}/{ids} HTTP/1.1\r\n"),
        false => format!("GET {place}?id={ids}{} HTTP/1.1\r\n", arguments(random)),
    };
    let lines = [
        "Host: localhost",
        pick(random, &["Connection: Upgrade", "Connection: keep-alive, upgrade"]),
        "Upgrade: websocket",
        pick(random, &["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"]),
        pick(
            random,
            &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: bm90aGluZw=="],
        ),
    ];
    for line in lines {
        if !sound && random.one_in(20) {
            let wrong = ["", "Sec-WebSocket-Version: 99", "Sec-WebSocket-Key: !", "Upgrade: h2c"];
            head += pick(random, &wrong);
        } else {
            head += line;
        }
        head += "\r\n";
    }
    head += &headers(random, sound);
    head += "\r\n";
    let mut bytes = head.into_bytes();
    for _ in 0..random.index(7) {
        bytes.extend(message(random, sound));
    }
    bytes
}

/// A message or control frame; a message perhaps in fragments, with control frames in between.
fn message(random: &mut Random, sound: bool) -> Vec<u8> {
    let mut body = payload(random);
    if sound {
        body.iter_mut().for_each(|byte| *byte = b' ' + *byte % 95);
    }
    let control = |random: &mut Random, body: &[u8]| {
        let short = &body[..body.len().min(random.index(126))];
        match random.index(if sound { 5 } else { 8 }) {
            0..2 => masked(random, 0x89, short),
            2..4 => masked(random, 0x8a, short),
            4 => {
                let code = if sound { 1000 } else { random.between(0, 5000) as u16 };
                let reason = &short[..short.len().min(123)];
                masked(random, 0x88, &[&code.to_be_bytes(), reason].concat())
            }
            5 => masked(random, 0x88, &short[..short.len().min(1)]),
            6 => masked(random, 0x09, short),
            _ => masked(random, 0x89, body),
        }
    };
    match random.index(10) {
        0..2 => return control(random, &body),
        2 if !sound => return broken_frame(random, &body),
        _ => {}
    }
    let opcode = if random.one_in(6) { 0x02 } else { 0x01 };
    let mut bytes = Vec::new();
    let mut first = opcode;
    while random.one_in(3) {
        let piece = body.drain(..random.index(body.len() + 1)).collect::<Vec<u8>>();
        bytes.extend(masked(random, first, &piece));
        first = if sound || !random.one_in(10) { 0x00 } else { opcode };
        if random.one_in(3) {
            bytes.extend(masked(random, 0x89, b"ping"));
        }
    }
    bytes.extend(masked(random, 0x80 | first, &body));
    bytes
}

fn masked(random: &mut Random, first: u8, payload: &[u8]) -> Vec<u8> {
    frames::frame(first, payload, (random.next() as u32).to_be_bytes())
}

/// A frame with an error in its head.
fn broken_frame(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let first = if random.one_in(2) { 0x81 } else { random.next() as u8 };
    let mut frame = masked(random, first, body);
    match random.index(4) {
        // No mask.
        0 => frame[1] &= 0x7f,
        // Another length.
        1 => frame[1] = 0x80 | random.next() as u8,
        // As long as can be.
        2 => drop(frame.splice(1..2, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        _ => {}
    }
    frame
}
