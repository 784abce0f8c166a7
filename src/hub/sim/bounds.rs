//! Bounds: clean-up costs as much as what expires, not as what exists; no call and no section does more
//! than a bounded part of a long work.
//!
//! Pins known-defects.md R3, R13.

use super::{World, token};
use crate::hub::{News, Tick};
use crate::model::DELETED_ID;

/// So many live channels.
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

/// However many subscribers a deleted channel has, one call ends some of their subscriptions, and other
/// channels of its shard have their turn in between.
#[test]
#[cfg_attr(miri, ignore = "hundreds of subscribers take Miri minutes")]
fn a_deleted_channel_ends_in_portions() {
    const SUBSCRIBERS: usize = 300;
    let mut world = World::new(1 << 20, 1);
    let store = &world.hub(0).store;
    let shard = |id: &[u8]| store.shard_of(store.hash(id));
    let mut ids = (0..).map(|n| format!("other {n}").into_bytes());
    let other = ids.find(|id| shard(id) == shard(b"deleted")).expect("one of eight");
    for number in 0..SUBSCRIBERS {
        world.subscribe(0, &[(b"deleted", None), (&other, None)], number).expect("room");
    }
    world.delete(0, b"deleted", b"bye");
    let (rules, now) = (world.rules.clone(), world.now);
    let (mut calls, mut ended, mut notices) = (0, 0, 0);
    loop {
        world.publish(0, &[&other], b"in between", false).expect("room");
        let (mut ends, mut others) = (0, 0);
        let mut each = |news: News<'_>| match news {
            News::Broken { .. } => panic!("nothing panics here"),
            News::Ended { left, .. } => {
                assert_eq!(left, 1);
                ends += 1;
            }
            News::Messages { messages, .. } if messages[0].id == DELETED_ID => notices += 1,
            News::Messages { .. } => others += 1,
        };
        // A turn of the worker.
        for _ in 0..4 {
            world.hub(0).deliver(&rules, now, &mut each);
        }
        assert!(ends <= 4 * 64, "{ends} subscriptions end in one turn");
        assert!(others > 0, "another channel starves");
        calls += 1;
        ended += ends;
        if ended == SUBSCRIBERS {
            break;
        }
        // Some leave by themselves before that.
        if calls == 3 {
            for number in 0..10 {
                if world.hub(0).channels_of(token(number)).len() == 2 {
                    ended += 1;
                }
                world.hub(0).leave(token(number), &rules, now);
            }
            world.check("ending");
        }
    }
    assert_eq!(notices, 1, "the notice comes once");
    assert!(calls > 1, "all at once");
    world.check("ended");
}

/// After a reload with a lower limit, a publish discards some of the messages over it, and ticks discard
/// the rest.
#[test]
#[cfg_attr(miri, ignore = "thousands of messages take Miri minutes")]
fn messages_over_a_lower_limit_go_in_portions() {
    let mut world = World::new(4 << 20, 1);
    for _ in 0..3000 {
        world.publish(0, &[b"a"], b"text", true).expect("room");
    }
    world.rules.stored_max = Some(10);
    let stored = |world: &mut World| world.hub(0).info(b"a").expect("it lives").stored;
    let mut before = stored(&mut world);
    for _ in 0..3 {
        world.publish(0, &[b"a"], b"text", true).expect("room");
        let now = stored(&mut world);
        assert!(
            now < before,
            "a publish discards more than it adds, as long as there are too many"
        );
        assert!(before + 1 - now <= 20, "{} messages discarded by one publish", before + 1 - now);
        before = now;
    }
    let (rules, now) = (world.rules.clone(), world.now);
    let mut calls = 0;
    loop {
        let more = world.hub(0).tick(Tick::Messages, &rules, now);
        let now = stored(&mut world);
        assert!(before - now <= 1000, "{} messages discarded by one call", before - now);
        before = now;
        calls += 1;
        if !more {
            break;
        }
    }
    assert_eq!((before, calls > 2), (10, true));
    world.check("after the ticks");
    world.publish(0, &[b"a"], b"text", true).expect("room");
    assert_eq!(stored(&mut world), 10);
}

/// Thousands of messages that are only kept for a slow worker stand between two stored ones. No section
/// looks at all of them.
#[test]
#[cfg_attr(miri, ignore = "thousands of messages take Miri minutes")]
fn the_next_stored_message_is_found_in_bounded_sections() {
    for evicts in [false, true] {
        let mut world = World::new(4 << 20, 2);
        world.subscribe(1, &[(b"a", None)], 1).expect("room");
        world.rules.message_ttl_secs = 5;
        world.publish(0, &[b"a"], b"first", true).expect("room");
        world.rules.message_ttl_secs = 60;
        for _ in 0..3000 {
            world.publish(0, &[b"a"], b"not stored", false).expect("room");
        }
        world.publish(0, &[b"a"], b"second", true).expect("room");
        world.publish(0, &[b"a"], b"third", true).expect("room");
        if evicts {
            world.rules.stored_max = Some(2);
            world.publish(0, &[b"a"], b"fourth", true).expect("room");
            world.tick(0);
        } else {
            world.now += 6;
            world.tick(0);
        }
        world.check("the first one is gone");
        let all: &[(&[u8], _)] = &[(b"a", Some(100))];
        let (texts, _) = world.read_first(0, all, 100);
        let expected: &[&[u8]] =
            if evicts { &[b"third", b"fourth"] } else { &[b"second", b"third"] };
        assert_eq!(texts, expected);
        world.check("between");
        assert_eq!(world.deliver(1).len(), if evicts { 3004 } else { 3003 });
        world.check("all is read");
        for worker in [0, 1] {
            let longest = world.hub(worker).store.longest_section.get();
            assert!(longest < 500, "a section looks at {longest} records");
        }
    }
}
