//! The rules of the specification that need no nginx: refusals and their order, limits, the timing
//! of trash and inactivity, deletion, tags, the events channel, a full zone.

use super::acts::{self, Received};
use super::{World, token};
use crate::hub::{News, Post, Refusal, Stay, Subscribe, Subscribed, Tick};
use crate::model::{Now, Seconds, Since, Token};

const ZONE: usize = 512 * 1024;

fn post<'a>(body: &'a [&'a [u8]]) -> Post<'a> {
    Post { body, store: true, ..Post::default() }
}

fn request<'a>(requested: &'a [(&'a [u8], Option<u64>)]) -> Subscribe<'a> {
    Subscribe { events_channel_allowed: false, ..acts::request(requested) }
}

fn subscribe(world: &mut World, request: &Subscribe<'_>) -> Result<Subscribed, Refusal> {
    let (rules, now) = (world.rules.clone(), world.now);
    world.hub(0).subscribe(request, &rules, now)
}

/// Subscribes worker 0 and announces it.
fn join(world: &mut World, channel: &[u8], number: usize) -> Token {
    world.subscribe(0, &[(channel, None)], number).expect("room");
    token(number)
}

fn leave(world: &mut World, token: Token) {
    let (rules, now) = (world.rules.clone(), world.now);
    world.hub(0).leave(token, &rules, now);
}

fn texts(received: &[Received]) -> Vec<String> {
    received.iter().map(|r| String::from_utf8_lossy(&r.text).into_owned()).collect()
}

fn with_events(world: &mut World) {
    world.rules.events_channel = b"events".to_vec();
    let (rules, now) = (world.rules.clone(), world.now);
    world.hub(0).configure(&rules, now);
}

/// Everything that a client can see of the zone.
fn seen(world: &mut World) -> String {
    let now = world.now;
    format!("{:?} {:?}", world.hub(0).list(b""), world.hub(0).summary(now))
}

#[test]
fn a_refused_publish_changes_nothing() {
    let mut world = World::new(ZONE, 1);
    world.rules.channel_id_len_max = Some(8);
    world.rules.channels_max = Some(3);
    with_events(&mut world);
    world.publish(0, &[b"there"], b"x", true).expect("room");
    let before = seen(&mut world);
    // The first wrong channel decides; for each channel the order is id, length, number, events channel.
    type Case<'a> = (&'a [&'a [u8]], &'a [u8], Refusal);
    let cases: &[Case<'_>] = &[
        (&[], b"x", Refusal::NoChannelId),
        (&[b"ALL"], b"x", Refusal::NotAuthorized),
        (&[b"a*"], b"x", Refusal::NotAuthorized),
        (&[b"a\0"], b"x", Refusal::NotAuthorized),
        (&[b"*too long for us"], b"x", Refusal::NotAuthorized),
        (&[b"too long for us", b"ALL"], b"x", Refusal::ChannelIdTooLarge),
        (&[b"123456789"], b"x", Refusal::ChannelIdTooLarge),
        (&[b"new", b"new2"], b"x", Refusal::TooManyChannels),
        (&[b"new", b"new2", b"events"], b"x", Refusal::TooManyChannels),
        (&[b"events", b"new", b"new2"], b"x", Refusal::EventsChannelIsInternal),
        (&[b"new", b"events"], b"x", Refusal::EventsChannelIsInternal),
        (&[b"events"], b"", Refusal::EventsChannelIsInternal),
        (&[b"new"], b"", Refusal::EmptyPost),
        (&[b"there"], b"", Refusal::EmptyPost),
    ];
    for (channels, body, refusal) in cases {
        assert_eq!(world.publish(0, channels, body, true), Err(*refusal), "{channels:?}");
        assert_eq!(seen(&mut world), before, "{channels:?} changed something");
    }
    world.publish(0, &[b"12345678"], b"x", true).expect("as long as it may be");
    let (rules, now) = (world.rules.clone(), world.now);
    let empty = Post { may_be_empty: true, ..post(&[]) };
    assert_eq!(world.hub(0).publish(&[b"there"], &empty, &rules, now), Ok(()));
    assert_eq!(
        world.hub(0).check_publisher(&[b"events"], true, false, &rules).err(),
        Some(Refusal::EventsChannelIsInternal)
    );
    assert_eq!(world.hub(0).check_publisher(&[b"events", b"absent"], false, false, &rules), Ok(()));
}

#[test]
fn a_refused_subscription_changes_nothing() {
    let mut world = World::new(ZONE, 1);
    world.rules.channel_id_len_max = Some(8);
    world.rules.channels_max = Some(4);
    world.rules.subscribers_max = Some(1);
    world.rules.wildcard_prefix = b"w_".to_vec();
    with_events(&mut world);
    world.publish(0, &[b"stored"], b"x", true).expect("room");
    world.publish(0, &[b"empty"], b"x", false).expect("room");
    join(&mut world, b"stored", 1);
    let before = seen(&mut world);
    type Requested<'a> = &'a [(&'a [u8], Option<u64>)];
    type Case<'a> = (Requested<'a>, bool, Option<u64>, Refusal);
    let cases: &[Case<'_>] = &[
        (&[], false, None, Refusal::NoChannelId),
        (&[(b"new", None), (b"ALL", None)], false, None, Refusal::NotAuthorized),
        (&[(b"too long for us", None), (b"*", None)], false, None, Refusal::ChannelIdTooLarge),
        (&[(b"absent", None)], true, None, Refusal::MayNotCreateChannels),
        (&[(b"empty", None), (b"stored", None)], true, None, Refusal::MayNotCreateChannels),
        (&[(b"stored", None), (b"empty", None)], true, None, Refusal::TooManySubscribers),
        (&[(b"stored", None), (b"events", None)], false, None, Refusal::TooManySubscribers),
        (&[(b"events", None)], true, None, Refusal::EventsChannelNotAllowed),
        (
            &[(b"events", None), (b"a", None), (b"b", None)],
            false,
            None,
            Refusal::EventsChannelNotAllowed,
        ),
        (&[(b"w_1", None)], false, Some(1), Refusal::TooManyWildcardChannels),
        (
            &[(b"w_1", None), (b"w_2", None), (b"a", None), (b"b", None)],
            false,
            Some(1),
            Refusal::TooManyWildcardChannels,
        ),
        (&[(b"w_1", None), (b"a", None), (b"b", None)], false, Some(1), Refusal::TooManyChannels),
    ];
    for (requested, authorized_only, wildcard_max, refusal) in cases {
        for stay in [Stay::Live, Stay::No] {
            let request = Subscribe {
                authorized_only: *authorized_only,
                wildcard_max: *wildcard_max,
                stay,
                ..request(requested)
            };
            assert_eq!(subscribe(&mut world, &request).err(), Some(*refusal), "{requested:?}");
            assert_eq!(seen(&mut world), before, "{requested:?} changed something");
        }
    }
    // Wildcard channels need no authorization. If there is a limit, another channel must be named too.
    let both: Requested<'_> = &[(b"w_1", None), (b"a", None)];
    let request = Subscribe { wildcard_max: Some(1), ..request(both) };
    assert!(subscribe(&mut world, &request).is_ok());
}

#[test]
fn a_channel_whose_messages_have_expired_is_not_authorized() {
    let mut world = World::new(ZONE, 1);
    world.rules.message_ttl_secs = 5;
    world.publish(0, &[b"a"], b"x", true).expect("room");
    let asks: &[(&[u8], _)] = &[(b"a", None)];
    let request = Subscribe { authorized_only: true, ..request(asks) };
    assert!(subscribe(&mut world, &request).is_ok());
    world.now += 5;
    assert_eq!(subscribe(&mut world, &request).err(), Some(Refusal::MayNotCreateChannels));
    world.tick(0);
    assert_eq!(subscribe(&mut world, &request).err(), Some(Refusal::MayNotCreateChannels));
}

#[test]
fn lowered_limits_hold_for_what_is_new() {
    let mut world = World::new(ZONE, 1);
    for channel in [b"a", b"b", b"c"] {
        (0..5).for_each(|_| world.publish(0, &[channel], b"x", true).expect("room"));
    }
    join(&mut world, b"a", 1);
    join(&mut world, b"a", 2);
    world.rules.channels_max = Some(1);
    world.rules.subscribers_max = Some(1);
    world.rules.stored_max = Some(2);
    assert_eq!(world.publish(0, &[b"d"], b"x", true), Err(Refusal::TooManyChannels));
    assert_eq!(world.subscribe(0, &[(b"a", None)], 3).err(), Some(Refusal::TooManySubscribers));
    assert!(world.subscribe(0, &[(b"b", None)], 3).is_ok(), "it has none yet");
    assert_eq!(world.hub(0).info(b"b").map(|info| info.stored), Some(5), "none is removed");
    world.publish(0, &[b"b"], b"new", false).expect("it exists");
    assert_eq!(world.hub(0).info(b"b").map(|info| info.stored), Some(5), "nothing was stored");
    world.publish(0, &[b"b"], b"new", true).expect("it exists");
    assert_eq!(world.hub(0).info(b"b").map(|info| info.stored), Some(2), "at once");
    let (_, backlog) = world.subscribe(0, &[(b"c", Some(9))], 4).expect("room");
    assert_eq!(backlog.len(), 5);
    world.check("after all");
}

#[test]
fn trash_counts_for_more_than_ten_seconds() {
    let mut world = World::new(ZONE, 1);
    world.rules.message_ttl_secs = 10;
    world.publish(0, &[b"a"], b"x", true).expect("room");
    let figures = |world: &mut World| {
        let now = world.now;
        let summary = world.hub(0).summary(now);
        (summary.published, summary.stored, summary.messages_in_trash)
    };
    world.now = Now::both(1009);
    world.tick(0);
    assert_eq!(figures(&mut world), (1, 1, 0), "one second is left");
    world.now = Now::both(1010);
    let asks: &[(&[u8], _)] = &[(b"a", Some(1))];
    let mut subscribed = subscribe(&mut world, &request(asks)).expect("room");
    let replayed = world.hub(0).read_backlog(&mut subscribed, Now::both(1010), &mut |_| true);
    assert_eq!(replayed.messages, 0, "not replayed past its time, even before a tick");
    assert_eq!(figures(&mut world), (1, 1, 0), "no tick has come");
    let rules = world.rules.clone();
    world.hub(0).tick(Tick::Messages, &rules, Now::both(1010));
    assert_eq!(figures(&mut world), (1, 0, 1));
    world.now = Now::both(1020);
    world.tick(0);
    assert_eq!(figures(&mut world), (1, 0, 1), "ten seconds are not more than ten");
    world.now = Now::both(1021);
    world.tick(0);
    assert_eq!(figures(&mut world), (1, 0, 0));
}

/// The clock is set an hour forward and back, twice, and once an hour back.
#[test]
fn a_clock_that_is_set_neither_keeps_messages_nor_ends_them() {
    for hours in [1, -1] {
        let mut world = World::new(ZONE, 1);
        world.rules.message_ttl_secs = 10;
        let mut numbers = Vec::new();
        let mut places = Vec::new();
        for second in 0..40 {
            world.now = Now { wall: 10_000 + second, steady: 77 + second };
            if second % 10 >= 5 && second < 20 {
                world.now.wall += 3600 * hours;
            }
            world.publish(0, &[b"a"], b"x", true).expect("room");
            let asks: &[(&[u8], _)] = &[(b"a", Some(99))];
            let mut subscribed =
                subscribe(&mut world, &Subscribe { stay: Stay::No, ..request(asks) })
                    .expect("room");
            let (mut stored, now) = (0, world.now);
            world.hub(0).read_backlog(&mut subscribed, now, &mut |message| {
                stored += 1;
                if message.id == second + 1 {
                    numbers.push(message.id);
                    places.push((message.time, message.tag));
                }
                true
            });
            assert_eq!(stored, 10.min(second + 1), "in second {second}");
            let by_place = |n: usize| Since {
                time: Some(places[n].0),
                tag: Some(places[n].1),
                ..Since::default()
            };
            let from = places.len().saturating_sub(4);
            let since =
                Subscribe { since: by_place(from), stay: Stay::No, ..request(&[(b"a", None)]) };
            let mut subscribed = subscribe(&mut world, &since).expect("room");
            let mut got = Vec::new();
            world.hub(0).read_backlog(&mut subscribed, now, &mut |message| {
                got.push(message.id);
                true
            });
            assert_eq!(got, numbers[from + 1..], "resuming in second {second}");
        }
        assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
        world.now += 10;
        world.tick(0);
        let now = world.now;
        assert_eq!(world.hub(0).summary(now).stored, 0, "all have expired");
    }
}

#[test]
fn messages_that_are_read_are_in_the_trash_only_afterwards() {
    let mut world = World::new(ZONE, 2);
    world.subscribe(1, &[(b"a", None)], 1).expect("room");
    world.publish(0, &[b"a"], b"x", false).expect("room");
    let now = world.now;
    assert_eq!(world.hub(0).summary(now).messages_in_trash, 1, "counted at once");
    world.now += 60;
    world.tick(0);
    assert_eq!(texts(&world.deliver(1)), ["x"], "and still there for its reader");
    world.now += 10;
    world.tick(0);
    let now = world.now;
    assert_eq!(world.hub(0).summary(now).messages_in_trash, 1, "ten seconds since it was read");
    world.now += 1;
    world.tick(0);
    let now = world.now;
    assert_eq!(world.hub(0).summary(now).messages_in_trash, 0);
}

#[test]
fn trash_is_freed_when_room_is_needed() {
    let mut world = World::new(128 * 1024, 1);
    world.rules.stored_max = Some(1);
    for _ in 0..200 {
        world.publish(0, &[b"a"], &[b'x'; 3000], true).expect("room is made at once");
    }
    let now = world.now;
    let summary = world.hub(0).summary(now);
    assert!(summary.messages_in_trash > 5 && summary.messages_in_trash < 40, "{summary:?}");
    assert_eq!((summary.published, summary.stored), (200, 1));
    world.check("full of trash");
}

#[test]
fn idle_channels_go_after_their_time() {
    let mut world = World::new(ZONE, 1);
    let lives = |world: &mut World, id: &[u8]| world.hub(0).info(id).is_some();
    world.publish(0, &[b"idle", b"published"], b"x", false).expect("room");
    let reader = join(&mut world, b"read", 1);
    world.publish(0, &[b"stored"], b"x", true).expect("room");
    world.now = Now::both(1020);
    world.publish(0, &[b"published"], b"x", false).expect("room");
    world.now = Now::both(1030);
    world.tick(0);
    assert!(lives(&mut world, b"idle"), "30 are not more than 30");
    world.hub(0).info(b"idle");
    world.now = Now::both(1031);
    world.tick(0);
    assert!(!lives(&mut world, b"idle"), "asking is not activity");
    for id in [&b"published"[..], b"read", b"stored"] {
        assert!(lives(&mut world, id), "{id:?}");
    }
    let summary = world.hub(0).summary(Now::both(1031));
    assert_eq!((summary.totals.channels, summary.channels_in_trash), (3, 1));
    world.now = Now::both(1042);
    world.tick(0);
    assert_eq!(world.hub(0).summary(Now::both(1042)).channels_in_trash, 0, "freed");
    world.now = Now::both(1051);
    world.tick(0);
    assert!(!lives(&mut world, b"published"));
    leave(&mut world, reader);
    assert!(lives(&mut world, b"read"), "leaving is no tick");
    world.tick(0);
    assert!(!lives(&mut world, b"read"), "it has waited long enough already");
    world.now = Now::both(1061);
    world.tick(0);
    assert!(!lives(&mut world, b"stored"), "message expired and channel idle in one tick");
    world.publish(0, &[b"stored"], b"x", true).expect("room");
    assert_eq!(world.hub(0).info(b"stored").map(|info| info.published), Some(1), "a new one");
}

#[test]
fn deletion_ends_subscriptions_and_starts_anew() {
    let mut world = World::new(ZONE, 2);
    (0..3).for_each(|_| world.publish(0, &[b"a", b"b"], b"x", true).expect("room"));
    join(&mut world, b"a", 1);
    world.subscribe(1, &[(b"a", None), (b"b", None)], 2).expect("room");
    world.subscribe(1, &[(b"b", None)], 3).expect("room");
    world.publish(0, &[b"a"], b"before", true).expect("room");
    assert_eq!(world.delete(0, b"a", b"bye"), 1);
    assert_eq!(world.delete(0, b"a", b"bye"), 0, "gone at once");
    let now = world.now;
    let summary = world.hub(0).summary(now);
    assert_eq!(summary.totals.channels, 1);
    assert_eq!((summary.channels_in_delete, summary.channels_in_trash), (1, 0));
    world.publish(0, &[b"a"], b"another", true).expect("room");
    assert_eq!(world.hub(0).info(b"a").map(|info| info.published), Some(1));
    let got = |received: Vec<Received>| -> Vec<_> {
        received.into_iter().map(|r| (r.number, r.id, String::from_utf8(r.text))).collect()
    };
    let notice = |token| (token, crate::model::DELETED_ID, Ok("bye".to_owned()));
    assert_eq!(got(world.deliver(0)), [(1, 4, Ok("before".to_owned())), notice(1)]);
    world.tick(0);
    assert_eq!(world.hub(0).summary(now).channels_in_delete, 1, "worker 1 has not ended its own");
    assert_eq!(got(world.deliver(1)), [(2, 4, Ok("before".to_owned())), notice(2)]);
    assert_eq!(world.hub(0).summary(now).channels_in_delete, 1, "until a tick");
    world.tick(1);
    let summary = world.hub(0).summary(now);
    assert_eq!((summary.channels_in_delete, summary.channels_in_trash), (0, 1));
    assert_eq!((summary.stored, summary.messages_in_trash), (4, 4));
    assert_eq!(summary.subscribers, 2, "the one with another channel stays");
    world.publish(0, &[b"b"], b"on", false).expect("room");
    assert_eq!(world.deliver(1).len(), 2);
    world.check("after a deletion");
}

#[test]
fn a_deletion_while_messages_are_handed_out_is_not_missed() {
    let mut world = World::new(ZONE, 2);
    join(&mut world, b"a", 1);
    world.publish(0, &[b"a"], b"x", false).expect("room");
    let (rules, now) = (world.rules.clone(), world.now);
    let mut reader = world.workers[0].take().expect("it lives");
    reader.deliver(&rules, now, &mut |_| {
        // The other worker deletes with the configured text, for which there is no message.
        world.delete(1, b"a", b"Channel deleted");
    });
    world.workers[0] = Some(reader);
    assert_eq!(texts(&world.deliver(0)), ["Channel deleted"]);
    assert_eq!(world.hub(0).summary(now).subscribers, 0);
    world.check("after the deletion");
}

#[test]
fn a_deletion_has_its_place_among_the_messages_of_other_channels() {
    let mut world = World::new(ZONE, 2);
    world.subscribe(0, &[(b"a", None), (b"b", None)], 1).expect("room");
    world.publish(1, &[b"b"], b"before", false).expect("room");
    world.delete(1, b"a", b"bye");
    world.publish(1, &[b"b"], b"after", false).expect("room");
    let (rules, now) = (world.rules.clone(), world.now);
    let (mut stamps, mut deletions) = (Vec::new(), Vec::new());
    while world.hub(0).deliver(&rules, now, &mut |news| {
        let News::Messages { messages, deleted_at, .. } = news else { return };
        match deleted_at {
            Some(deleted_at) => deletions.push(deleted_at),
            None => stamps.extend(messages.iter().map(|message| (message.time, message.tag))),
        }
    }) {}
    assert_eq!(stamps, [(1000, 1), (1000, 2)]);
    assert_eq!(deletions, stamps[..1], "behind the message that was the newest then");
}

#[test]
fn tags_order_the_messages_of_all_channels() {
    let mut world = World::new(ZONE, 2);
    let stamps = |world: &mut World, channels: &[&[u8]]| -> Vec<(Seconds, u64)> {
        let requested: Vec<_> = channels.iter().map(|id| (*id, Some(9))).collect();
        let (rules, now) = (world.rules.clone(), world.now);
        let request = Subscribe { stay: Stay::No, ..request(&requested) };
        let mut subscribed = world.hub(0).subscribe(&request, &rules, now).expect("room");
        let mut stamps = Vec::new();
        world.hub(0).read_backlog(&mut subscribed, now, &mut |message| {
            stamps.push((message.time, message.tag));
            true
        });
        stamps
    };
    world.publish(0, &[b"a", b"b"], b"x", true).expect("room");
    world.publish(1, &[b"a"], b"x", true).expect("room");
    world.now = Now::both(1001);
    world.publish(1, &[b"b"], b"x", true).expect("room");
    world.now.wall = 990; // The clock is set back. The time of messages does not.
    world.publish(0, &[b"a"], b"x", true).expect("room");
    world.now = Now::both(1002);
    world.publish(0, &[b"a"], b"x", true).expect("room");
    assert_eq!(stamps(&mut world, &[b"a"]), [(1000, 1), (1000, 3), (1001, 2), (1002, 1)]);
    assert_eq!(stamps(&mut world, &[b"b"]), [(1000, 2), (1001, 1)]);
}

#[test]
fn events_are_told_in_order_and_never_of_themselves() {
    let mut world = World::new(ZONE, 2);
    with_events(&mut world);
    let now = world.now;
    assert_eq!(world.hub(0).totals(now).channels, 1);
    world.subscribe(1, &[(b"events", None)], 9).expect("room");
    let subscriber = join(&mut world, b"other", 1);
    leave(&mut world, subscriber);
    world.publish(0, &[b"news"], b"x", false).expect("room");
    join(&mut world, b"news", 2);
    world.delete(0, b"news", b"bye");
    world.deliver(0);
    world.now += 4;
    world.tick(0);
    let notice =
        |kind: &str, channel: &str| format!("{{\"type\": \"{kind}\", \"channel\": \"{channel}\"}}");
    assert_eq!(
        texts(&world.deliver(1)),
        [
            notice("channel_created", "other"),
            notice("client_subscribed", "other"),
            notice("client_unsubscribed", "other"),
            notice("channel_created", "news"),
            notice("client_subscribed", "news"),
            notice("client_unsubscribed", "news"),
            notice("channel_destroyed", "news"),
        ]
    );
    let now = world.now;
    let summary = world.hub(0).summary(now);
    assert_eq!((summary.published, summary.stored), (1, 0), "notices count only in their channel");
    let info = world.hub(0).info(b"events").expect("it lives");
    assert_eq!((info.published, info.stored), (7, 7));
    world.now += 100;
    world.tick(0);
    let info = world.hub(0).info(b"events").expect("it is never idle");
    assert_eq!((info.published, info.stored), (8, 1), "of the idle one, just now");
}

#[test]
fn events_are_counted() {
    let mut world = World::new(ZONE, 1);
    world.rules.stored_max = Some(20);
    with_events(&mut world);
    let told = |world: &mut World| world.hub(0).info(b"events").expect("it lives").published;
    let ids: Vec<Vec<u8>> = (0..20).map(|n| format!("fresh {n}").into_bytes()).collect();
    let subscribers: Vec<_> = ids.iter().zip(0..).map(|(id, n)| join(&mut world, id, n)).collect();
    assert_eq!(told(&mut world), 40);
    for id in &ids[..10] {
        assert_eq!(world.delete(0, id, b"bye"), 1);
    }
    world.deliver(0);
    world.tick(0);
    assert_eq!(told(&mut world), 60);
    subscribers[10..].iter().for_each(|id| leave(&mut world, *id));
    world.now += 31;
    world.tick(0);
    assert_eq!(told(&mut world), 80);
    assert_eq!(world.hub(0).info(b"events").map(|info| info.stored), Some(20));
    // Polling is not announced.
    let asks: &[(&[u8], _)] = &[(b"polled", None)];
    let polls = Subscribe { stay: Stay::No, ..request(asks) };
    subscribe(&mut world, &polls).expect("room");
    assert_eq!(told(&mut world), 81);
}

#[test]
fn another_events_channel_makes_the_former_an_ordinary_one() {
    let mut world = World::new(ZONE, 1);
    world.publish(0, &[b"next"], b"x", true).expect("room");
    with_events(&mut world);
    join(&mut world, b"a", 1);
    world.rules.events_channel = b"next".to_vec();
    let (rules, now) = (world.rules.clone(), world.now);
    (0..2).for_each(|_| world.hub(0).configure(&rules, now));
    let summary = world.hub(0).summary(now);
    assert_eq!((summary.published, summary.stored), (1, 2), "notices of the former count now");
    world.publish(0, &[b"events"], b"x", true).expect("an ordinary channel");
    assert_eq!(world.publish(0, &[b"next"], b"x", true), Err(Refusal::EventsChannelIsInternal));
    world.check("another events channel");
    world.now += 200;
    world.tick(0);
    assert!(world.hub(0).info(b"events").is_none(), "it may be idle now");
    assert!(world.hub(0).info(b"next").is_some());
}

#[test]
fn a_full_zone_still_serves_what_exists() {
    let mut world = World::new(128 * 1024, 2);
    world.publish(0, &[b"a", b"gone"], b"first", true).expect("room");
    while world.publish(0, &[b"a"], b"x", true).is_ok() {}
    let full = seen(&mut world);
    let long = [b'n'; 3000];
    for refused in [
        world.publish(0, &[&long], b"x", true),
        world.publish(0, &[b"a", &long], b"x", true),
        world.publish(0, &[b"a"], &[b'x'; 5000], true),
    ] {
        assert!(matches!(refused, Err(Refusal::NoMemory { .. })), "{refused:?}");
    }
    let refused = world.subscribe(0, &[(b"a", None), (&long, None)], 1).err();
    assert_eq!(refused, Some(Refusal::NoMemory { message: false }));
    assert_eq!(seen(&mut world), full, "a refusal changed something");
    let (_, backlog) = world.subscribe(1, &[(b"a", Some(u64::MAX))], 2).expect("the reserve");
    assert!(backlog.len() > 100);
    world.publish(0, &[b"gone"], b"x", false).expect("nobody listens, so it needs no room");
    assert_eq!(world.delete(0, b"gone", b"a text that does not fit"), 1);
    assert_eq!(world.delete(0, b"a", &[b'x'; 9000]), 1, "deleting needs no memory");
    assert_eq!(texts(&world.deliver(1)), ["Channel deleted"], "the text that all know");
    world.tick(0);
    world.publish(0, &[b"a"], &[b'x'; 5000], true).expect("room again");
    world.check("full and empty");
}

/// `Ended` says how many other subscriptions there are. With none the subscriber is unregistered.
#[test]
fn ended_tells_what_is_left() {
    let mut world = World::new(ZONE, 1);
    world.subscribe(0, &[(b"a", None), (b"b", None)], 1).expect("room");
    let mut ends = Vec::new();
    let (rules, now) = (world.rules.clone(), world.now);
    for id in [b"a", b"b"] {
        world.delete(0, id, b"bye");
        let mut each = |news: News<'_>| {
            if let News::Ended { token, left } = news {
                ends.push((token.index(), left));
            }
        };
        while world.hub(0).deliver(&rules, now, &mut each) {}
    }
    assert_eq!(ends, [(1, 1), (1, 0)]);
    assert_eq!(world.hub(0).summary(now).subscribers, 0);
}
