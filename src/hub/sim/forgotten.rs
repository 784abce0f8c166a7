//! Interests in the zone that the worker's roster does not know, as a panic may leave them. They must not
//! be taken for the interests of other channels that have their numbers by now.

use super::World;
use super::acts::Received;
use crate::hub::roster::Roster;

/// A worker that has forgotten its subscriber of "old", and then has one of "new".
fn forgetful() -> World {
    let mut world = World::new(1 << 20, 1);
    world.subscribe(0, &[(b"old", None)], 1).expect("room");
    world.hub(0).roster = Roster::default();
    world.subscribe(0, &[(b"new", None)], 2).expect("room");
    world
}

fn got(number: usize, id: i64, text: &[u8]) -> Received {
    Received { number, id, text: text.to_vec() }
}

#[test]
fn a_later_subscriber_gets_its_own_channel() {
    let mut world = forgetful();
    world.subscribe(0, &[(b"old", None)], 3).expect("room");
    world.publish(0, &[b"old"], b"to old", false).expect("room");
    world.publish(0, &[b"new"], b"to new", false).expect("room");
    let mut received = world.deliver(0);
    received.sort_by_key(|received| received.number);
    assert_eq!(received, [got(2, 1, b"to new"), got(3, 1, b"to old")]);
    world.check("after a subscriber joined a forgotten interest");
}

#[test]
fn its_deletion_ends_nobody_else() {
    let mut world = forgetful();
    world.delete(0, b"old", b"gone");
    assert_eq!(world.deliver(0), []);
    world.publish(0, &[b"new"], b"to new", false).expect("room");
    assert_eq!(world.deliver(0), [got(2, 1, b"to new")]);
    world.check("after a forgotten interest ended");
}
