//! A worker dies at the k-th store of each operation, for every k. Then others go on, and the zone is
//! whole and nothing leaks.

use super::World;
use super::acts::Received;
use crate::model::Now;

/// The worker that dies, and one that lives on.
pub(super) const VICTIM: usize = 0;
pub(super) const WITNESS: usize = 1;
/// Just large enough for the furniture, so that operations which fill the zone end soon.
pub(super) const ZONE: usize = 128 * 1024;

/// A zone with records of every kind.
pub(super) fn furnished() -> World {
    let mut world = World::new(ZONE, 3);
    world.rules.stored_max = Some(4);
    world.rules.events_channel = b"events".to_vec();
    let rules = world.rules.clone();
    world.hub(WITNESS).configure(&rules, Now::both(1000));
    let large = vec![b'L'; 9000];
    for n in 0..5 {
        world.publish(WITNESS, &[b"a", b"b"], &[b'0' + n; 40], true).expect("room");
    }
    world.publish(WITNESS, &[b"large"], &large, true).expect("room");
    world.publish(WITNESS, &[b"gone"], b"x", true).expect("room");
    world.subscribe(WITNESS, &[(b"gone", None)], 90).expect("room");
    world.delete(WITNESS, b"gone", b"away");
    world.publish(WITNESS, &[b"old"], b"x", true).expect("room");
    world.subscribe(VICTIM, &[(b"a", None)], 1).expect("room");
    world.subscribe(WITNESS, &[(b"a", None), (b"b", None)], 2).expect("room");
    world.subscribe(2, &[(b"a", None)], 3).expect("room");
    world.publish(WITNESS, &[b"a"], b"waiting", false).expect("room");
    world.deliver(2);
    world.check("furnished");
    world
}

/// Every store; under Miri, where one world takes half a minute, only some.
pub(super) const STEP: usize = if cfg!(miri) { 401 } else { 1 };

/// Runs `operation` in a furnished world, and dies at every possible moment.
fn stop_everywhere(name: &str, operation: impl Fn(&mut World)) {
    let pristine = World::new(ZONE, 3).drain();
    let mut deaths = 0;
    for stores in (0..).step_by(STEP) {
        let mut world = furnished();
        let survived = world.run_until_store(VICTIM, stores, &operation).is_some();
        let when = format!("{name}, dead at store {stores}");
        world.check(&when);

        // The others go on before anybody has taken the dead worker's seat. (They can have to wait only
        // for the memory of what it was building.)
        let early = world.publish(WITNESS, &[b"a", b"new"], b"after", true).is_ok();
        let texts = |received: &[Received]| -> Vec<Vec<u8>> {
            received.iter().filter(|r| r.number == 2).map(|r| r.text.clone()).collect()
        };
        let received = world.deliver(WITNESS);
        if !survived {
            world.spawn(VICTIM);
        }
        if !early {
            world.publish(WITNESS, &[b"a", b"new"], b"after", true).expect("room again");
        }
        let mut all = received;
        all.extend(world.deliver(WITNESS));
        let all: Vec<Vec<u8>> =
            texts(&all).into_iter().filter(|text| text.starts_with(b"after")).collect();
        assert_eq!(all.len(), 1, "{when}: the witness gets the message once");
        world.check(&format!("{when}, seat taken again"));

        let drained = world.drain();
        assert_eq!(drained, pristine, "{when}: something leaked");
        if survived {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 0, "{name} makes no store at all");
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn publish_stored() {
    stop_everywhere("publish", |world| {
        world.publish(VICTIM, &[b"a"], b"text", true).expect("room");
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn publish_unstored_to_two() {
    stop_everywhere("publish unstored", |world| {
        world.publish(VICTIM, &[b"a", b"b"], b"text", false).expect("room");
    });
}

#[test]
fn publish_large_to_new_channel() {
    stop_everywhere("publish large", |world| {
        world.publish(VICTIM, &[b"fresh"], &[b'x'; 20_000], true).expect("room");
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn publish_too_large() {
    stop_everywhere("publish too large", |world| {
        world.publish(VICTIM, &[b"fresh"], &[b'x'; 130_000], true).expect_err("no room");
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn subscribe_with_backlog() {
    stop_everywhere("subscribe", |world| {
        world
            .subscribe(VICTIM, &[(b"a", Some(2)), (b"large", Some(9)), (b"fresh", None)], 7)
            .expect("room");
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn read_a_backlog_in_portions() {
    stop_everywhere("read on", |world| {
        let (_, rest) = world.read_first(VICTIM, &[(b"a", Some(4)), (b"large", Some(9))], 1);
        let (texts, rest) = world.read_on(VICTIM, rest.expect("more is left"), 1).expect("there");
        assert_eq!(texts.len(), 1);
        world.publish(VICTIM, &[b"b"], b"meanwhile", true).expect("room");
        let (texts, rest) = world.read_on(VICTIM, rest.expect("more is left"), 9).expect("there");
        assert_eq!((texts.len(), rest.is_some()), (3, false));
    });
}

#[test]
fn deliver() {
    stop_everywhere("deliver", |world| {
        world.deliver(VICTIM);
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn leave() {
    stop_everywhere("leave", |world| {
        let (rules, now) = (world.rules.clone(), world.now);
        for id in world.hub(VICTIM).roster.everybody() {
            world.hub(VICTIM).leave(id, &rules, now);
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn delete() {
    stop_everywhere("delete", |world| {
        world.delete(VICTIM, b"b", b"a text of its own");
        world.delete(VICTIM, b"large", b"Channel deleted");
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn sweep() {
    stop_everywhere("sweep", |world| {
        world.deliver(WITNESS);
        for _ in 0..3 {
            world.now += 70;
            world.tick(VICTIM);
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn detach() {
    stop_everywhere("detach", |world| {
        let (rules, now) = (world.rules.clone(), world.now);
        world.hub(VICTIM).detach(&rules, now);
    });
}

#[test]
fn recover_a_dead_worker() {
    stop_everywhere("recover", |world| {
        world.run_until_store(2, 30, |world| {
            let _ = world.publish(2, &[b"a"], b"dying", true);
        });
        let now = world.now;
        world.hub(VICTIM).recover_dead(now, &|pid| pid != 103);
    });
}

#[test]
#[cfg_attr(miri, ignore = "slow; the others touch the same code")]
fn configure_another_events_channel() {
    stop_everywhere("configure", |world| {
        world.rules.events_channel = b"other".to_vec();
        let (rules, now) = (world.rules.clone(), world.now);
        world.hub(VICTIM).configure(&rules, now);
        world.rules.events_channel = b"events".to_vec();
    });
}
