//! Makes up the bytes to send: requests and frames that keep all rules, most rules, or none.
//!
//! One batch is a handful of connections, whose bytes are cut anywhere and interleaved. A connection keeps the
//! rules, or its bytes come from the grammar with errors in it, or from a request of a suite in `t/`. Bytes that
//! do not keep the rules are damaged once more.

use crate::random::Random;

use super::locations::MARKED;
use super::requests::request;
use super::script::{Batch, Manners, Step};
use super::sockets::socket;

/// Connections of one batch, at the most.
const CONNECTIONS_MAX: u64 = 12;

/// Bytes that damage inserts: those at which grammars branch.
const TOKENS: [&[u8]; 28] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b"/",
    b"//",
    b"/../",
    b"?",
    b"&id=",
    b"%",
    b"%00",
    b"%2F",
    b"%zz",
    b".b",
    b".b99999999999999999999",
    b"*",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"Content-Length: 18446744073709551616\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x81\xfe",
    b"\x88\x80",
];

/// Draws batches.
pub(crate) struct Grammar {
    /// Requests of the suites.
    seeds: Vec<Vec<u8>>,
}

impl Grammar {
    pub(crate) fn new(seeds: Vec<Vec<u8>>) -> Self {
        Self { seeds }
    }

    /// The batch of this number; the same for the same seed.
    pub(crate) fn batch(&self, seed: u64, number: u64) -> Batch {
        let mut random = Random::new(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let random = &mut random;
        let mut lines: Vec<Vec<Step>> = (0..random.between(1, CONNECTIONS_MAX) as usize)
            .map(|at| self.connection(random, at))
            .collect();
        let marks = random.between(0, 2);
        lines.extend((0..marks).map(|_| vec![Step::Publish(random.index(MARKED.len()))]));
        let mut steps = Vec::new();
        // Each connection keeps its order; chance decides which one continues.
        lines.iter_mut().for_each(|line| line.reverse());
        while !lines.is_empty() {
            let at = random.index(lines.len());
            match lines[at].pop() {
                Some(step) => steps.push(step),
                None => drop(lines.swap_remove(at)),
            }
            if random.one_in(20) {
                steps.push(Step::Pause);
            }
        }
        Batch { number, steps }
    }

    /// The whole life of one connection.
    fn connection(&self, random: &mut Random, at: usize) -> Vec<Step> {
        let manners = match random.index(20) {
            0..8 => Manners::Sound,
            8..19 => Manners::Damaged,
            _ => Manners::Deaf,
        };
        let sound = manners == Manners::Sound;
        let from_suite = !sound && !self.seeds.is_empty() && random.one_in(2);
        let mut bytes = match random.index(3) {
            _ if from_suite => self.seeds[random.index(self.seeds.len())].clone(),
            0 => socket(random, sound),
            _ => {
                let requests = if random.one_in(3) { random.between(1, 4) } else { 1 };
                (0..requests).flat_map(|_| request(random, sound)).collect()
            }
        };
        if !sound && random.one_in(2) {
            self.damage(random, &mut bytes);
        }
        let mut steps = vec![Step::Open(at, manners)];
        for piece in cut(random, &bytes) {
            steps.push(Step::Send(at, piece));
            if random.one_in(20) {
                steps.push(Step::Hear(at));
            }
        }
        if random.one_in(2) {
            steps.push(Step::Hear(at));
        }
        if random.one_in(6) {
            steps.push(Step::Shut(at));
        }
        steps.push(match random.index(10) {
            0..5 => Step::Reset(at),
            5..9 => Step::Close(at),
            _ => Step::Leave(at),
        });
        steps
    }

    fn damage(&self, random: &mut Random, bytes: &mut Vec<u8>) {
        for _ in 0..random.between(1, 4) {
            let place = random.index(bytes.len() + 1);
            let end = (place + random.between(1, 16) as usize).min(bytes.len());
            match random.index(7) {
                0 => bytes.truncate(place),
                1 => drop(bytes.drain(place..end)),
                2 => {
                    let again = bytes[place..end].to_vec();
                    bytes.splice(place..place, again);
                }
                3 => {
                    let token = TOKENS[random.index(TOKENS.len())].iter().copied();
                    bytes.splice(place..end.min(place + random.index(3)), token);
                }
                4 if !self.seeds.is_empty() => {
                    let other = &self.seeds[random.index(self.seeds.len())];
                    let from = random.index(other.len() + 1);
                    bytes.splice(place.., other[from..].iter().copied());
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte = match random.one_in(2) {
                            true => *byte ^ 1 << random.index(8),
                            false => random.next() as u8,
                        };
                    }
                }
            }
        }
    }
}

/// Cuts bytes into the pieces that are sent at once: mostly one piece, sometimes single bytes.
fn cut(random: &mut Random, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let longest = match random.index(8) {
        0 => 3,
        1..3 => 40,
        3..5 => 400,
        _ => usize::MAX,
    };
    while !rest.is_empty() {
        // Many tiny pieces of something large would only take time.
        let most = if pieces.len() > 40 { rest.len() } else { longest.min(rest.len()) };
        let (piece, after) = rest.split_at(random.between(1, most as u64) as usize);
        pieces.push(if longest == usize::MAX { rest } else { piece }.to_vec());
        rest = if longest == usize::MAX { &[] } else { after };
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::script::parse;
    use super::*;

    #[test]
    fn a_seed_gives_the_same_batches_and_they_can_be_written_down() {
        let grammar = Grammar::new(vec![b"GET /sub?id=a HTTP/1.1\r\n\r\n".to_vec()]);
        for number in 0..300 {
            let batch = grammar.batch(7, number);
            assert_eq!(batch, grammar.batch(7, number));
            assert_eq!(parse(&batch.to_string()), Ok(vec![batch]));
        }
        assert_ne!(grammar.batch(7, 1).steps, grammar.batch(8, 1).steps);
    }

    #[test]
    fn a_connection_is_opened_first_and_ended_last() {
        let grammar = Grammar::new(Vec::new());
        for number in 0..300 {
            let mut open: HashMap<usize, bool> = HashMap::new();
            for step in grammar.batch(7, number).steps {
                match step {
                    Step::Open(at, _) => assert_eq!(open.insert(at, true), None),
                    Step::Reset(at) | Step::Close(at) | Step::Leave(at) => {
                        assert_eq!(open.insert(at, false), Some(true));
                    }
                    Step::Send(at, _) | Step::Hear(at) | Step::Shut(at) => {
                        assert_eq!(open.get(&at), Some(&true));
                    }
                    Step::Publish(_) | Step::Pause => {}
                }
            }
            assert!(open.values().all(|open| !open));
        }
    }
}
