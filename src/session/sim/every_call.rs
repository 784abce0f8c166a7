//! A fixed history for each kind of subscriber, in which something goes wrong at its k-th call, for every k.

use std::rc::Rc;

use super::client::{Client, Kind, frame};
use super::history::History;
use super::link::{Fault, set_portion};
use crate::model::Since;
use crate::session::link::Way;
use crate::wire::frame::Opcode;

const EVERYTHING: Since<'_> = Since { time: Some(0), tag: Some(0), event_id: None, cursor: None };

/// Who is in the history besides the one that has trouble.
fn others(history: &mut History) {
    for (kind, channels) in [
        (Kind::Stream(Way::Direct), &[(b"a".as_slice(), None)][..]),
        (Kind::WebSocket, &[(b"a", None), (b"b", None)]),
        (Kind::LongPoll(false), &[(b"b", None)]),
    ] {
        history.request(Client::new(kind, 0), channels, Since::default());
    }
}

/// Says what has failed.
struct Failing(String);

impl Drop for Failing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// Old messages in each channel, and their length.
type Old = (usize, usize);

/// What goes wrong for whom.
#[derive(Clone, Copy, Debug)]
struct Trouble<'a> {
    kind: Kind,
    has_cursors: bool,
    channels: &'a [&'a str],
    old: Old,
    fault: Fault,
    /// What the link answers in turn when it is asked whether it is plain.
    plain: &'a [bool],
}

/// The history. `true`: the subscriber has come to its end without the call of this number.
fn run(trouble: &Trouble<'_>, number: usize) -> bool {
    let Trouble { kind, has_cursors, channels, old: (old, len), fault, plain } = *trouble;
    let _failing = Failing(format!("{trouble:?} at {number}"));
    let mut history = History::new((512 << 10) + 3 * old * len, 2);
    for number in 0..old {
        history.publish(1, "a", &format!("{number}").repeat(len));
        history.publish(1, "b", &format!("{number}").repeat(len));
    }
    others(&mut history);
    history.run_all();

    let client = if has_cursors { Client::with_cursors(kind, 0) } else { Client::new(kind, 0) };
    client.link.plain.borrow_mut().extend(plain);
    client.link.buffered_max.set(4000);
    client.link.fails_at(number, fault);
    let channels: Vec<_> = channels.iter().map(|id| (id.as_bytes(), None)).collect();
    let client = history.request(client, &channels, EVERYTHING);
    history.check();
    let step = |history: &History| {
        history.run_all();
        history.check();
    };
    step(&history);
    if kind == Kind::WebSocket {
        let mut frames = frame(Opcode::Ping, b"hello");
        frames.extend(frame(Opcode::Text, b"own"));
        client.link.input.borrow_mut().extend(frames);
    }
    step(&history);
    for text in ["one", "two"] {
        history.publish(1, "a", text);
        history.publish(0, "b", text);
    }
    step(&history);
    history.advance(8000);
    step(&history);
    for text in ["three", "four"] {
        history.publish(1, "b", text);
        step(&history);
    }
    // What was blocked goes on.
    grant(&history, &client);
    history.publish(1, "a", "five");
    step(&history);
    history.delete(1, b"a");
    history.publish(1, "b", "six");
    step(&history);
    history.delete(1, b"b");
    step(&history);
    history.settle();
    let is_over = client.link.calls() <= number;
    history.end();
    is_over
}

fn grant(history: &History, client: &Rc<Client>) {
    client.link.fails(|_| None);
    client.link.room.set(usize::MAX);
    history.run_all();
    history.check();
}

const FAULTS: [Fault; 6] =
    [Fault::Block, Fault::Take(1), Fault::Take(100_000), Fault::Lose, Fault::Vanish, Fault::Panic];

fn at_every_call(kind: Kind, old: Old) {
    let plains: &[&[bool]] = match kind.way() {
        Way::Direct => &[&[true], &[false], &[true, false]],
        Way::Filtered => &[&[true]],
    };
    for (plain, fault) in plains.iter().flat_map(|plain| FAULTS.map(|fault| (plain, fault))) {
        let one = (false, &["a"][..]);
        for (has_cursors, channels) in [one, (false, &["b", "a"]), (true, &["b", "a"])] {
            let trouble = Trouble { kind, has_cursors, channels, old, fault, plain };
            let mut number = 0;
            while !run(&trouble, number) {
                number += 1;
            }
            assert!(number > 3 || kind.is_poll(), "nothing happened");
        }
    }
}

#[test]
fn whatever_call_fails_a_subscriber_gets_whole_messages_in_order() {
    for kind in Kind::ALL {
        at_every_call(kind, (0, 0));
        at_every_call(kind, (3, 500));
    }
}

/// Old messages of several portions.
#[test]
fn whatever_call_fails_old_messages_come_before_live_ones() {
    for kind in Kind::ALL {
        set_portion(Some((1000, 5)));
        at_every_call(kind, (10, 400));
    }
}
