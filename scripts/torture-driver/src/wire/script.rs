//! The steps of a batch, and the text form from which it can be played again.
//!
//! ```text
//!   # seed 1: what was found
//!   batch 17
//!   open 0 sound         a connection that keeps the rules; "damaged": one that does not
//!   send 0 GET /sub?id=a HTTP/1.1\r\n
//!   publish 2            a marked message to the marked channel number 2
//!   hear 0               until an answer came, or for a moment
//!   pause                until nothing comes any more
//!   shut 0               closes our sending half; "reset 0", "close 0": the end
//!   leave 0              stays open during later batches
//! ```

use std::fmt;

/// How a connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// It sends well-formed requests and frames, so all answers must be well formed.
    Sound,
    /// It sends anything.
    Damaged,
    /// It sends anything and never reads.
    Deaf,
}

const MANNERS: [(&str, Manners); 3] =
    [("sound", Manners::Sound), ("damaged", Manners::Damaged), ("deaf", Manners::Deaf)];

/// One step. Numbers are those of the batch's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Open(usize, Manners),
    Send(usize, Vec<u8>),
    Publish(usize),
    Hear(usize),
    Pause,
    Shut(usize),
    Reset(usize),
    Close(usize),
    Leave(usize),
}

/// The steps that are played between two checks of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) steps: Vec<Step>,
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "batch {}", self.number)?;
        for step in &self.steps {
            match step {
                Step::Open(at, manners) => {
                    let known = MANNERS.iter().find(|(_, known)| known == manners);
                    writeln!(f, "open {at} {}", known.map_or("", |(name, _)| name))?;
                }
                Step::Send(at, bytes) => writeln!(f, "send {at} {}", bytes.escape_ascii())?,
                Step::Publish(channel) => writeln!(f, "publish {channel}")?,
                Step::Hear(at) => writeln!(f, "hear {at}")?,
                Step::Pause => writeln!(f, "pause")?,
                Step::Shut(at) => writeln!(f, "shut {at}")?,
                Step::Reset(at) => writeln!(f, "reset {at}")?,
                Step::Close(at) => writeln!(f, "close {at}")?,
                Step::Leave(at) => writeln!(f, "leave {at}")?,
            }
        }
        Ok(())
    }
}

/// Reads the text form. The error names the line.
pub(crate) fn parse(text: &str) -> Result<Vec<Batch>, String> {
    let mut batches: Vec<Batch> = Vec::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    for (number, line) in lines {
        let bad = || format!("line {}: \"{line}\"", number + 1);
        let mut words = line.splitn(3, ' ');
        let word = words.next().unwrap_or_default();
        let at = words.next().and_then(|at| at.parse().ok()).ok_or_else(bad);
        let rest = words.next();
        if word == "batch" {
            batches.push(Batch { number: at? as u64, steps: Vec::new() });
            continue;
        }
        let step = match word {
            "open" => {
                let known = MANNERS.iter().find(|(name, _)| rest == Some(*name));
                Step::Open(at?, known.ok_or_else(bad)?.1)
            }
            "send" => Step::Send(at?, unescape(rest.unwrap_or_default()).ok_or_else(bad)?),
            "publish" => Step::Publish(at?),
            "hear" => Step::Hear(at?),
            "pause" => Step::Pause,
            "shut" => Step::Shut(at?),
            "reset" => Step::Reset(at?),
            "close" => Step::Close(at?),
            "leave" => Step::Leave(at?),
            _ => return Err(bad()),
        };
        batches.last_mut().ok_or_else(bad)?.steps.push(step);
    }
    Ok(batches)
}

/// The reverse of `escape_ascii`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                other => other,
            },
            other => other,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let steps = vec![
            Step::Open(0, Manners::Sound),
            Step::Open(1, Manners::Deaf),
            Step::Send(0, every_byte),
            Step::Send(1, b" \\x \"'".to_vec()),
            Step::Send(1, Vec::new()),
            Step::Publish(2),
            Step::Hear(0),
            Step::Pause,
            Step::Shut(0),
            Step::Reset(0),
            Step::Close(1),
            Step::Leave(1),
        ];
        let batches = [Batch { number: 7, steps }, Batch { number: 8, steps: vec![Step::Pause] }];
        let text: String = batches.iter().map(Batch::to_string).collect();
        let text = format!("# seed 1: a remark\n{text}");
        assert_eq!(parse(&text).as_deref(), Ok(batches.as_slice()));
        assert!(parse("pause").is_err());
        assert!(parse("batch 1\nopen 0 rude").is_err());
    }
}
