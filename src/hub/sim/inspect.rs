//! The audit of a zone in use: it finds nothing while all is well, also when others work between its stops,
//! and names each rule that is broken.

use super::{SEATS, World};
use crate::model::{Audit, Now};
use crate::store::arena::{Handle, W32, W64};
use crate::store::channel::Channel;
use crate::store::message::{Content, Message};
use crate::store::{Inspection, Store};

/// A world with records of all kinds: stored, expired and large messages, live and deleted channels,
/// trash, interests with and without news.
fn populated() -> World {
    let mut world = World::new(1 << 20, 2);
    for n in 0..40_u32 {
        let id = format!("channel {}", n % 8);
        world.publish((n % 2) as usize, &[id.as_bytes()], &[b'x'; 100], true).expect("room");
    }
    world.publish(0, &[b"large"], &[b'y'; 20_000], true).expect("room");
    for worker in 0..2 {
        for (token, id) in [b"channel 1", b"channel 2"].into_iter().enumerate() {
            world.subscribe(worker, &[(id, None)], token).expect("room");
        }
    }
    world.publish(0, &[b"channel 1"], b"news", true).expect("room");
    world.publish(0, &[b"channel 1"], b"passing", false).expect("room");
    world.delete(0, b"channel 3", b"gone");
    world.delete(0, b"channel 4", b"gone");
    world.tick(0);
    world.delete(1, b"channel 5", b"gone");
    world
}

fn names(audit: &Audit) -> Vec<&'static str> {
    audit.violations.iter().map(|(name, _)| *name).collect()
}

#[test]
fn it_counts_what_there_is() {
    let mut world = populated();
    world.check("populated");
    let audit = world.inspect();
    let amount = |name| audit.kinds.iter().find(|(kind, _)| *kind == name).expect("a kind").1;
    assert_eq!(amount("channels_live").count, 6);
    assert_eq!(amount("channels_deleted").count, 1);
    assert_eq!(amount("channels_in_trash").count, 2);
    assert_eq!(amount("interests_live").count, 4);
    assert_eq!(amount("messages_being_read").count, 1);
    assert_eq!(amount("messages_in_trash").count, 10);
    assert!(amount("content_blocks").bytes > 16_000);
    let in_slots: u64 = audit.kinds.iter().map(|(_, amount)| amount.bytes).sum();
    let in_pages = u64::from(audit.free_pages + audit.seat_pages) * audit.page_bytes;
    let all = in_slots + in_pages + audit.page_overhead_bytes + audit.table_bytes;
    assert_eq!(all, audit.bytes, "every byte is accounted for");
    let stored = world.hub(0).summary(Now::both(1000)).stored;
    assert_eq!(amount("messages_stored").count, stored);
}

#[test]
fn others_may_work_between_its_stops() {
    let mut world = populated();
    for _ in 0..80 {
        world.publish(0, &[b"large"], &[b'y'; 4000], true).expect("room");
    }
    let store = world.open(SEATS);
    let mut inspection = Inspection::default();
    let mut round = 0_u32;
    while store.inspect_some(&mut inspection) {
        let id = format!("between {}", round % 5);
        world.publish(0, &[id.as_bytes()], &[b'z'; 300], round.is_multiple_of(2)).expect("room");
        world.subscribe(1, &[(id.as_bytes(), None)], 100 + round as usize).expect("room");
        if round.is_multiple_of(3) {
            world.deliver(1);
            world.delete(0, id.as_bytes(), b"gone");
        }
        if round.is_multiple_of(7) {
            world.now += 15;
            world.tick(0);
        }
        if round.is_multiple_of(11) {
            // It dies while it publishes.
            let stores = u64::from(round);
            let survived = world.run_until_store(0, stores, |world| {
                world.publish(0, &[b"cut off"], &[b'w'; 500], true)
            });
            if survived.is_none() {
                world.spawn(0);
            }
        }
        round += 1;
    }
    let audit = store.report(inspection);
    assert!(round > 20, "there were stops");
    assert_eq!(names(&audit), [""; 0]);
    assert!(!audit.compared, "it has seen that the zone changed");
    world.check("afterwards");
}

enum Word<'s> {
    Narrow(&'s W32, u32),
    Wide(&'s W64, u64),
}
use Word::{Narrow, Wide};

/// Changes a word, expects the audit to name this rule, and puts the old value back.
fn expect(world: &World, name: &str, word: impl for<'s> Fn(&'s Store) -> Word<'s>) {
    let store = world.open(SEATS);
    let (narrow, wide) = match word(&store) {
        Narrow(word, value) => {
            let old = word.get();
            assert_ne!(old, value, "{name}: nothing would change");
            store.arena.put32(word, value);
            (Some((word, old)), None)
        }
        Wide(word, value) => {
            let old = word.get();
            assert_ne!(old, value, "{name}: nothing would change");
            store.arena.put64(word, value);
            (None, Some((word, old)))
        }
    };
    let found = world.inspect();
    assert!(names(&found).contains(&name), "{name} is not among {:?}", found.violations);
    if let Some((word, old)) = narrow {
        store.arena.put32(word, old);
    }
    if let Some((word, old)) = wide {
        store.arena.put64(word, old);
    }
    assert_eq!(names(&world.inspect()), [""; 0], "after {name}");
}

fn channel<'s>(store: &'s Store, id: &[u8]) -> (Handle<Channel>, &'s Channel) {
    let hash = store.hash(id);
    let section = store.section(store.shard_of(hash));
    let handle = section.find(hash, id).expect("this channel exists");
    drop(section);
    (handle, store.arena.get(handle))
}

/// The second message of channel 0, which has neighbours on both sides.
fn message(store: &Store) -> &Message {
    let first = channel(store, b"channel 0").1.first.get().expect("a message");
    let second = store.arena.get(first).next.get().expect("a second one");
    store.arena.get(second)
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of audits take Miri minutes")]
fn each_broken_rule_has_a_name() {
    let mut world = populated();
    world.publish(0, &[b"idle"], b"to nobody", false).expect("room");
    // For pages that were used and are free again.
    let text: &[&[u8]] = &[&[b'x'; 30_000]];
    let content = Content { text, ..Content::default() };
    let staged = world.hub(0).store.stage(content).expect("room");
    world.hub(0).store.unstage(staged);
    let world = world;
    world.check("populated");

    // Counters.
    expect(&world, "free_pages", |s| Narrow(&s.header().commons.free_pages, 1));
    expect(&world, "free_interests", |s| Narrow(&s.header().commons.free_interests, 1));
    expect(&world, "channels", |s| Wide(&s.header().commons.channels, 77));
    expect(&world, "wildcard_channels", |s| Wide(&s.header().commons.wildcard_channels, 77));
    expect(&world, "messages_in_trash", |s| Wide(&s.header().commons.messages_in_trash, 77));
    expect(&world, "channels_in_trash", |s| Wide(&s.header().commons.channels_in_trash, 77));
    expect(&world, "stored_messages", |s| Wide(&s.header().shards[0].stored, 77));
    expect(&world, "channels_in_delete", |s| Wide(&s.header().shards[0].channels_in_delete, 77));
    expect(&world, "channel_stored_messages", |s| Narrow(&channel(s, b"channel 0").1.stored, 77));

    // Lists, from their heads.
    expect(&world, "free_list", |s| Narrow(&s.header().commons.free_first, 0));
    expect(&world, "trash_list", |s| Narrow(&s.header().commons.trash_first.0, 0));
    expect(&world, "trash_channel_list", |s| Narrow(&s.header().commons.trash_channel_first.0, 0));
    expect(&world, "deleted_list", |s| {
        let shards = s.header().shards.iter();
        let link = shards.map(|shard| &shard.deleted).find(|link| link.get().is_some());
        Narrow(&link.expect("a deleted channel").0, 0)
    });
    expect(&world, "untold_list", |s| {
        Narrow(&s.header().shards[0].untold.0, channel(s, b"channel 0").0.unit())
    });
    expect(&world, "staging_list", |s| {
        let at = channel(s, b"channel 0").1.first.get().expect("a message");
        Narrow(&s.seat_at(2).expect("a seat").staging.0, at.unit())
    });
    expect(&world, "trash_neighbours", |s| Narrow(&s.header().commons.trash_last.0, 0));
    expect(&world, "index", |s| {
        let hash = channel(s, b"channel 0").1.hash();
        Narrow(&s.bucket_of(hash).first.0, 0)
    });
    expect(&world, "channel_index", |s| {
        let hash = channel(s, b"channel 0").1.hash();
        Narrow(&s.bucket_of(hash).first.0, 0)
    });
    expect(&world, "bucket", |s| {
        let hash = channel(s, b"channel 0").1.hash();
        Narrow(&s.bucket_of(hash).first.0, 12_345)
    });
    expect(&world, "occupied", |s| {
        let hash = channel(s, b"channel 0").1.hash();
        Narrow(&s.bucket_of(hash).first.0, 0)
    });
    expect(&world, "occupied", |s| {
        // Without these bits the channels of the shard cannot be listed.
        let at = s.header().occupied_at.get() as usize;
        let words = (at..).step_by(4).map(|at| s.arena.word32(at));
        Narrow(words.into_iter().find(|word| word.get() != 0).expect("a channel"), 0)
    });

    // Pages.
    let slab_page = |s: &Store, full: bool| {
        let pages = (0..s.header().pages.get()).map(|page| s.descriptor(page));
        let mut pages = pages.enumerate().filter(|(_, d)| d.state.get() >= 3);
        let found = pages.find(|(_, d)| (d.free.get() == 0) == full);
        found.expect("such a page").0 as u32
    };
    expect(&world, "page_state", |s| Narrow(&s.descriptor(slab_page(s, false)).state, 99));
    expect(&world, "page_bits", |s| Wide(&s.descriptor(slab_page(s, false)).free, u64::MAX));
    expect(&world, "page_list", |s| Narrow(&s.descriptor(slab_page(s, false)).prev, 999));
    expect(&world, "page_empty_kept", |s| {
        let descriptor = s.descriptor(slab_page(s, false));
        let class = descriptor.state.get() as usize - 2;
        Wide(&descriptor.free, Store::all_free(class))
    });
    expect(&world, "slot_kind", |s| {
        let page = slab_page(s, false);
        let at = s.page_offset(page) as u32;
        let taken = s.descriptor(page).free.get().trailing_ones();
        let size = Store::size_of_class(s.descriptor(page).state.get() as usize - 2) as u32;
        Narrow(s.arena.word32((at + taken * size) as usize), 0xdead)
    });
    expect(&world, "seat_at_rest", |s| {
        let seat = s.seat_at(2).expect("a seat");
        // The word after the kind and the process id holds the bits of its locks.
        Wide(s.arena.word64(s.arena.offset_of(&seat.pid) + 4), 1 << 20)
    });

    // Channels.
    expect(&world, "channel_hash", |s| {
        let hash = &channel(s, b"channel 0").1.hash;
        Narrow(hash, hash.get() ^ 1 << 31)
    });
    expect(&world, "channel_log", |s| Narrow(&channel(s, b"channel 0").1.last.0, 0));
    expect(&world, "channel_log", |s| Wide(&channel(s, b"channel 0").1.published, 0));
    expect(&world, "channel_stored_first", |s| {
        Narrow(&channel(s, b"channel 0").1.stored_link().0, 0)
    });
    expect(&world, "channel_interests", |s| {
        let other = channel(s, b"channel 2").1.interests.get().expect("an interest");
        Narrow(&channel(s, b"channel 0").1.interests.0, other.unit())
    });
    expect(&world, "channel_tell_next", |s| Narrow(&channel(s, b"channel 0").1.tell_next.0, 9));
    expect(&world, "channel_idle", |s| Narrow(&channel(s, b"channel 0").1.idle_links().0.0, 9));
    expect(&world, "channel_trash", |s| {
        let trashed = s.header().commons.trash_channel_first.get().expect("one");
        Narrow(&s.arena.get(trashed).first.0, 9)
    });

    expect(&world, "channel_trash_lists", |s| {
        let trashed = s.header().commons.trash_channel_first.get().expect("one");
        let flags = &s.arena.get(trashed).flags;
        Narrow(flags, flags.get() | 16)
    });
    expect(&world, "channel_forgotten", |s| {
        let flags = &channel(s, b"idle").1.flags;
        Narrow(flags, flags.get() & !8)
    });

    // Messages.
    expect(&world, "message_size", |s| Narrow(&message(s).flags, message(s).flags.get() ^ 1 << 10));
    expect(&world, "message_chain", |s| {
        let large = channel(s, b"large").1.first.get().expect("a message");
        Narrow(&s.chain(large).expect("more content").first.0, 5)
    });
    expect(&world, "message_channel", |s| Narrow(&message(s).channel.0, 0));
    expect(&world, "message_neighbours", |s| Narrow(&message(s).prev.0, 0));
    expect(&world, "message_order", |s| Narrow(&message(s).number_low, 0));
    expect(&world, "message_expiry", |s| Narrow(&message(s).expiry_next.0, 9));
    expect(&world, "message_expiry_order", |s| Narrow(&message(s).expires, 1));
    expect(&world, "message_before_oldest", |s| {
        let (_, channel) = channel(s, b"channel 0");
        Narrow(&channel.stored_link().0, channel.last.0.get())
    });
    expect(&world, "message_in_trashed_channel", |s| {
        let flags = &channel(s, b"channel 0").1.flags;
        Narrow(flags, flags.get() | 32)
    });
    expect(&world, "trash_stored", |s| {
        let trashed = s.header().commons.trash_first.get().expect("one");
        let flags = &s.arena.get(trashed).flags;
        Narrow(flags, flags.get() | 1)
    });
    expect(&world, "message_needless", |s| {
        // No longer stored, not in the trash, and without a reader.
        let flags = &message(s).flags;
        Narrow(flags, flags.get() & !1)
    });
    expect(&world, "block_size", |s| {
        let large = channel(s, b"large").1.first.get().expect("a message");
        let block = s.chain(large).and_then(|c| c.first.get()).expect("its content");
        Narrow(&s.arena.get(block).size, 5)
    });
    expect(&world, "block_next", |s| {
        let large = channel(s, b"large").1.first.get().expect("a message");
        let block = s.chain(large).and_then(|c| c.first.get()).expect("its content");
        Narrow(&s.arena.get(block).next.0, 5)
    });
    expect(&world, "content_blocks", |s| {
        let large = channel(s, b"large").1.first.get().expect("a message");
        let chain = &s.chain(large).expect("more content").first;
        let second = s.arena.get(chain.get().expect("its content")).next.get();
        Narrow(&chain.0, second.expect("more content").unit())
    });

    // Interests.
    let interest = |s: &Store, id: &[u8]| channel(s, id).1.interests.get().expect("an interest");
    expect(&world, "interest_channel", |s| {
        Narrow(&s.arena.get(interest(s, b"channel 1")).channel.0, 9)
    });
    expect(&world, "interest_neighbours", |s| {
        Narrow(&s.arena.get(interest(s, b"channel 1")).channel_links().0.0, 9)
    });
    expect(&world, "interest_seat", |s| Narrow(&s.arena.get(interest(s, b"channel 1")).seat, 4000));
    expect(&world, "interest_inbox", |s| {
        Narrow(&s.arena.get(interest(s, b"channel 1")).inbox_links().0.0, 9)
    });
    expect(&world, "interest_next", |s| {
        Narrow(&s.arena.get(interest(s, b"channel 1")).next_link().0, 0)
    });
    expect(&world, "interest_unaware", |s| {
        let flags = &s.arena.get(interest(s, b"channel 1")).flags;
        Narrow(flags, flags.get() & !2)
    });
}
