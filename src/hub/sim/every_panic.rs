//! Each operation panics at its k-th use of a handle, for every k. Its worker lives on: the zone stays
//! whole, nothing starves, and a subscriber that may have missed messages is told.

use super::World;
use super::acts::Received;
use super::every_stop::{STEP, VICTIM, WITNESS, ZONE, furnished};
use super::{Death, token};
use crate::hub::News;

/// Delivers everything after a panic. Answers the messages, and the subscribers that are told of a panic.
fn deliver(world: &mut World, worker: usize) -> (Vec<Received>, Vec<usize>) {
    let (rules, now) = (world.rules.clone(), world.now);
    let (mut received, mut broken) = (Vec::new(), Vec::new());
    let mut each = |news: News<'_>| match news {
        News::Messages { groups, messages, .. } => {
            for listener in groups.iter().flat_map(|group| &group.listeners) {
                for message in listener.due(messages) {
                    let number = listener.token.index() as usize;
                    received.push(Received { number, id: message.id, text: message.text.to_vec() });
                }
            }
        }
        News::Broken { token, .. } => broken.push(token.index() as usize),
        News::Ended { .. } => {}
    };
    while world.hub(worker).deliver(&rules, now, &mut each) {}
    for number in &broken {
        world.hub(worker).leave(token(*number), &rules, now);
    }
    (received, broken)
}

/// Runs `operation` in a furnished world, with a panic at every possible moment.
fn panic_everywhere(name: &str, operation: impl Fn(&mut World, &mut Vec<Received>)) {
    let pristine = World::new(ZONE, 3).drain();
    let mut panics = 0;
    for uses in (0..).step_by(STEP) {
        let mut world = furnished();
        let mut before = Vec::new();
        let survived =
            world.run_until(VICTIM, Death::Panic(uses), |world| operation(world, &mut before));
        let when = format!("{name}, a panic at use {uses}");
        world.check(&when);

        // The session removes a subscriber whose request has failed.
        let (rules, now) = (world.rules.clone(), world.now);
        world.hub(VICTIM).leave(token(7), &rules, now);
        world.hub(VICTIM).tick(crate::hub::Tick::Full, &rules, now);
        let listens = !world.hub(VICTIM).channels_of(token(1)).is_empty();
        world.publish(VICTIM, &[b"a"], b"after", true).expect("room");
        world.check(&when);
        let taken = world.inspect();
        for kind in ["messages_staged", "interests_backlog"] {
            let amount = taken.kinds.iter().find(|(name, _)| *name == kind).expect("a kind").1;
            assert_eq!(amount.count, 0, "{when}: {kind} are left");
        }

        let (received, broken) = deliver(&mut world, VICTIM);
        assert!(!world.hub(VICTIM).has_news(), "{when}: it never comes to an end");
        let mut ids: Vec<i64> = before.iter().chain(&received).map(|r| r.id).collect();
        ids.retain(|id| *id > 0);
        assert!(ids.windows(2).all(|two| two[1] == two[0] + 1), "{when}: {ids:?} of one channel");
        let has_all = received.iter().any(|received| received.text == b"after");
        assert!(!listens || has_all || broken == [1], "{when}: it is not told of a loss");
        let (others, _) = deliver(&mut world, WITNESS);
        let after = others.iter().filter(|r| r.number == 2 && r.text == b"after");
        assert_eq!(after.count(), 1, "{when}: another worker");
        world.check(&when);

        let drained = world.drain();
        assert_eq!(drained, pristine, "{when}: something leaked");
        if survived.is_some() {
            break;
        }
        panics += 1;
    }
    assert!(panics > 0, "{name} uses no handle at all");
}

#[test]
fn publish() {
    panic_everywhere("publish", |world, _| {
        world.publish(VICTIM, &[b"b", b"fresh"], &[b'x'; 9000], true).expect("room");
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn subscribe_with_backlog() {
    panic_everywhere("subscribe", |world, _| {
        world
            .subscribe(VICTIM, &[(b"a", Some(2)), (b"large", Some(9)), (b"fresh", None)], 7)
            .expect("room");
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn read_a_backlog_in_portions() {
    panic_everywhere("read on", |world, _| {
        let (_, rest) = world.read_first(VICTIM, &[(b"a", Some(4)), (b"large", Some(9))], 1);
        let (_, rest) = world.read_on(VICTIM, rest.expect("more is left"), 1).expect("there");
        world.read_on(VICTIM, rest.expect("more is left"), 9).expect("there");
    });
}

#[test]
fn deliver_messages() {
    panic_everywhere("deliver", |world, received| {
        let (rules, now) = (world.rules.clone(), world.now);
        let mut each = |news: News<'_>| {
            let News::Messages { messages, .. } = news else { return };
            let messages = messages.iter();
            received.extend(messages.map(|m| Received { number: 1, id: m.id, text: Vec::new() }));
        };
        while world.hub(VICTIM).deliver(&rules, now, &mut each) {}
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn deliver_a_deletion() {
    panic_everywhere("deliver a deletion", |world, _| {
        let (rules, now) = (world.rules.clone(), world.now);
        let trip = world.hub(VICTIM).store.arena.trip.take();
        for number in 10..15 {
            world.subscribe(VICTIM, &[(b"b", None)], number).expect("room");
        }
        world.delete(WITNESS, b"b", b"away");
        world.hub(VICTIM).store.arena.trip.set(trip);
        while world.hub(VICTIM).deliver(&rules, now, &mut |_| {}) {}
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn leave() {
    panic_everywhere("leave", |world, _| {
        let (rules, now) = (world.rules.clone(), world.now);
        world.hub(VICTIM).leave(token(1), &rules, now);
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn delete() {
    panic_everywhere("delete", |world, _| {
        world.delete(VICTIM, b"b", b"a text of its own");
        world.delete(VICTIM, b"large", b"Channel deleted");
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn sweep() {
    panic_everywhere("sweep", |world, _| {
        let (rules, now) = (world.rules.clone(), world.now);
        while world.hub(VICTIM).tick(crate::hub::Tick::Full, &rules, now + 70) {}
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn recover_a_dead_worker() {
    panic_everywhere("recover", |world, _| {
        world.kill(2);
        let now = world.now;
        world.hub(VICTIM).recover_dead(now, &|pid| pid != 103);
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn list() {
    panic_everywhere("list", |world, _| {
        world.hub(VICTIM).list(b"");
    });
}
