//! Memory: which messages fit, that none overlap, and that a drained zone holds as much as before.
//!
//! Exactly which messages fit: a message is a head of 44 bytes and its content, in a chain of slots. If it
//! has more than one, the head has 12 bytes more. It uses all other bytes of the first slot, and all but 16 of
//! each further one. It may use every free slot of
//! the ordinary classes, and every free page except those that are kept for interests
//! (`Store::may_spare`), each as one slot of 4,096 bytes. If its bytes fit there, it is accepted.

use super::rng::Rng;
use super::{World, look};
use crate::hub::Hub;
use crate::model::Now;
use crate::store::Store;
use crate::store::arena::PAGE;
use crate::store::message::{Chain, Content, MESSAGE_HEAD, Message};
use crate::store::pages::SLAB;
use crate::store::slab::{BLOCK_HEAD, CLASSES, VITAL};

/// How many bytes of content one more message can have, by the rule above.
fn room(store: &Store) -> Option<usize> {
    let header = store.header();
    let mut slots = 0;
    let mut bytes = 0;
    for page in 0..header.pages.get() {
        let descriptor = store.descriptor(page);
        let Some(class) = descriptor.state.get().checked_sub(SLAB) else { continue };
        if class as usize != VITAL && (class as usize) < CLASSES {
            let free = descriptor.free.get().count_ones() as usize;
            slots += free;
            bytes += free * Store::size_of_class(class as usize);
        }
    }
    let mut free = header.commons.free_pages.get();
    while store.may_spare(free) {
        free -= 1;
        slots += 1;
        bytes += PAGE;
    }
    let chain = if slots > 1 { size_of::<Chain>() } else { 0 };
    let heads = MESSAGE_HEAD + chain + slots.checked_sub(1)? * BLOCK_HEAD;
    Some(bytes - heads)
}

fn content<'a>(text: &'a [&'a [u8]]) -> Content<'a> {
    Content { text, ..Content::default() }
}

/// A message that just fits is accepted and keeps its content. One byte more is refused.
fn proves_the_rule(hub: &Hub, rng: &mut Rng) {
    let Some(room) = room(&hub.store) else { return };
    let text = rng.text(0, room + 1);
    assert!(hub.store.stage(content(&[&text])).is_none(), "{room} bytes fit, not one more");
    let message = hub.store.stage(content(&[&text[..room]])).expect("what fits is accepted");
    let mut read = Vec::new();
    hub.store.read_content(message, &mut read);
    assert!(read == text[..room], "content of a large message");
    hub.store.unstage(message);
}

/// Staged messages, freed in any order, of any size up to the room that is left.
#[test]
fn staged_messages_keep_their_bytes_in_any_history() {
    for seed in 0..12 {
        let mut rng = Rng::seeded(seed);
        let lens: &[usize] = &[96, 128, 300];
        let mut world = World::new(*rng.pick(lens) * 1024, 1);
        let pristine = world.check("new").free_pages;
        let hub = world.workers[0].take().expect("it lives");
        let mut live: Vec<(crate::store::arena::Handle<Message>, Vec<u8>)> = Vec::new();
        for _ in 0..500 {
            // Now and then most of them are freed.
            if rng.chance(2) {
                for _ in 0..live.len() * 9 / 10 {
                    let (message, _) = live.swap_remove(rng.below(live.len()));
                    hub.store.unstage(message);
                }
                proves_the_rule(&hub, &mut rng);
            } else if rng.chance(60) {
                let len = match rng.below(10) {
                    0..7 => rng.below(200),
                    7..9 => rng.below(5000),
                    _ => rng.below(world.len()),
                };
                let text = rng.text(seed, len);
                let fits = room(&hub.store).is_some_and(|room| len <= room);
                let (head, tail) = text.split_at(len / 3);
                let message = hub.store.stage(content(&[head, b"", tail]));
                assert!(message.is_some() || !fits, "{len} bytes did not fit");
                live.extend(message.map(|message| (message, text)));
            } else if !live.is_empty() {
                let (message, text) = live.swap_remove(rng.below(live.len()));
                let mut read = Vec::new();
                hub.store.read_content(message, &mut read);
                assert!(read == text, "content of a message");
                hub.store.unstage(message);
            }
            if rng.chance(5) {
                proves_the_rule(&hub, &mut rng);
            }
        }
        for (message, text) in &live {
            let mut read = Vec::new();
            hub.store.read_content(*message, &mut read);
            assert!(read == *text, "content of a message at the end");
        }
        world.workers[0] = Some(hub);
        assert_eq!(world.check("full of staged messages").messages, 0);
        let hub = world.workers[0].take().expect("it lives");
        live.into_iter().for_each(|(message, _)| hub.store.unstage(message));
        world.workers[0] = Some(hub);
        assert_eq!(world.check("all given back").free_pages, pristine);
    }
}

/// Channels and messages of all sizes come and go. After that, a message that fits is still accepted.
#[test]
fn a_message_that_fits_is_published_after_any_history() {
    for seed in 0..8 {
        let mut rng = Rng::seeded(1000 + seed);
        let mut world = World::new(192 * 1024, 2);
        world.rules.channel_inactivity_secs = 100_000;
        world.publish(0, &[b"big"], b"x", false).expect("room");
        for step in 0..300 {
            world.rules.message_ttl_secs = *rng.pick(&[3, 10, 30, 200]);
            let id = format!("channel {}", rng.below(30)).into_bytes();
            let longest = if rng.chance(80) { 150 } else { 9000 };
            let len = 1 + rng.below(longest);
            let text = rng.text(step, len);
            let _ = world.publish(rng.below(2), &[&id], &text, rng.chance(80));
            if rng.chance(20) {
                world.now += 2;
                world.tick(rng.below(2));
            }
        }
        world.tick(0);
        let store = world.open(super::SEATS);
        while store.empty_trash_step(None) {}
        let all = look(&store);
        let room = room(&store).expect("a slot is free");
        let text = rng.text(7, room);
        world.publish(0, &[b"big"], &text, true).expect("it fits");
        let now = look(&world.open(super::SEATS));
        assert!(now[b"big".as_slice()].stored[0].text == text, "the large message");
        for (id, real) in all.iter().filter(|(id, _)| *id != b"big") {
            assert_eq!(now[id].stored, real.stored, "the others are untouched");
        }
        world.check("full");
    }
}

/// Publishes messages of this length until the zone is full. Answers how many fitted.
fn fill(world: &mut World, len: usize) -> usize {
    let text = vec![b'f'; len];
    (0..).take_while(|_| world.publish(0, &[b"fill"], &text, true).is_ok()).count()
}

fn empty(world: &mut World) {
    for _ in 0..4 {
        world.now += 100;
        world.tick(1);
    }
}

#[test]
fn a_drained_zone_holds_as_many_again() {
    for len in [1, 27, 300, 5000] {
        let mut world = World::new(129 * 1024, 3);
        let first = fill(&mut world, len);
        assert!(first > 3, "some fit");
        for round in 1..=10 {
            if round % 3 == 1 {
                (0..3).for_each(|worker| world.kill(worker));
                (0..3).for_each(|worker| world.spawn(worker));
            }
            empty(&mut world);
            let when = format!("round {round} of {len} bytes");
            world.check(&when);
            assert_eq!(fill(&mut world, len), first, "{when}");
        }
    }
}

#[test]
fn a_few_subscribers_do_not_change_how_many_fit() {
    for len in [1, 27, 300, 5000] {
        let fits = |subscribers: usize| {
            let mut world = World::new(129 * 1024, 3);
            world.publish(0, &[b"fill"], b"x", false).expect("room");
            for token in 0..subscribers {
                let worker = token % 3;
                world.subscribe(worker, &[(b"fill", None)], token).expect("room");
            }
            fill(&mut world, len)
        };
        let without = fits(0);
        for subscribers in [1, 2, 3, 20] {
            assert_eq!(fits(subscribers), without, "{subscribers} subscribers, {len} bytes");
        }
    }
}

/// Discarded messages lend their memory at once, so a busy channel never runs out of memory.
#[test]
fn a_small_zone_takes_any_number_of_messages() {
    let mut world = World::new(129 * 1024, 2);
    world.rules.stored_max = Some(100);
    for n in 0..100_000 {
        let text = format!("{n:080}");
        world.publish(0, &[b"busy"], text.as_bytes(), true).expect("there is always room");
    }
    let info = world.hub(1).info(b"busy").expect("it lives");
    assert_eq!(info.stored, info.published.min(100));
    world.check("after all of them");
}

/// A large message needs the room of much small trash, which is freed in portions, not piece by piece.
#[test]
fn a_large_message_gets_the_room_of_many_small_ones() {
    let mut world = World::new(4 * 1024 * 1024, 2);
    world.rules.stored_max = Some(1);
    while world.hub(0).summary(Now::both(1000)).messages_in_trash < 25_000 {
        world.publish(0, &[b"a"], b"small", true).expect("room");
    }
    let large = vec![b'L'; 2 * 1024 * 1024];
    let stores = 5_000_000;
    let outcome = world.run_until_store(0, stores, |world| world.publish(0, &[b"a"], &large, true));
    assert_eq!(outcome, Some(Ok(())), "it fits, and in less than {stores} stores");
    world.check("a large message is in");
}
