//! Clean-up costs what expires, not what exists, and no call does more than a bounded part of it.
//!
//! Pins known-defects.md R3, R13.

use super::World;
use crate::hub::Tick;

/// Channels that are all alive.
const CHANNELS: u32 = 2000;

fn crowded() -> World {
    let mut world = World::new(4 << 20, 1);
    for n in 0..CHANNELS {
        let id = format!("channel {n}");
        world.publish(0, &[id.as_bytes()], b"text", true).expect("room");
    }
    world
}

#[test]
#[cfg_attr(miri, ignore = "thousands of channels take Miri minutes")]
fn a_tick_that_finds_nothing_due_changes_next_to_nothing() {
    let mut world = crowded();
    world.now += 20;
    // Locks and flags take a few stores a shard; a look at each channel would take thousands.
    let survived = world.run_until_store(0, 200, |world| world.tick(0));
    assert!(survived.is_some(), "a tick costs what exists");
}

#[test]
#[cfg_attr(miri, ignore = "thousands of channels take Miri minutes")]
fn one_call_does_a_bounded_part_and_says_so() {
    let mut world = crowded();
    world.now += 10_000;
    let (rules, now) = (world.rules.clone(), world.now);
    assert!(world.hub(0).tick(Tick::Full, &rules, now), "there is more to do");
    let left = world.hub(0).totals(now).channels;
    assert!(left > u64::from(CHANNELS) / 2, "only {left} channels are left after one call");
    world.tick(0);
    world.tick(0);
    assert_eq!(world.hub(0).totals(now).channels, 0, "in the end all of it is done");
}
