//! Subscribers that are told places: cursors, old messages of several channels in one order, and the same border
//! between old and live messages in all of them.

use super::acts;
use super::{LIFE, World, token};
use crate::hub::{Hub, Lagged, News, Post, Stay, Subscribe, Subscribed};
use crate::model::{Cursor, Gap, Now, Seconds, Since};

const ZONE: usize = 512 * 1024;

type Place = (Seconds, u64);

fn publish(hub: &mut Hub, world: (&crate::hub::Rules, Now), id: &[u8], text: &[u8], store: bool) {
    let (rules, now) = world;
    let (event_id, event_type, body) = (None, None, &[text][..]);
    let post = Post { event_id, event_type, body, store, ..Post::default() };
    hub.publish(&[id], &post, rules, now).expect("room");
}

fn ordered<'a>(requested: &'a [(&'a [u8], Option<u64>)], since: Since<'a>) -> Subscribe<'a> {
    Subscribe { since, ordered: true, token: token(9), ..acts::request(requested) }
}

fn subscribe(world: &mut World, request: &Subscribe<'_>) -> Subscribed {
    let (rules, now) = (world.rules.clone(), world.now);
    world.hub(0).subscribe(request, &rules, now).expect("room")
}

/// The places and texts of all old messages.
fn old(world: &mut World, subscribed: &mut Subscribed) -> Vec<(Place, Vec<u8>)> {
    let (mut old, now) = (Vec::new(), world.now);
    let replayed = world.hub(0).read_backlog(subscribed, now, &mut |message| {
        old.push(((message.time, message.tag), message.text.to_vec()));
        true
    });
    assert!(replayed.rest.is_none());
    old
}

/// The same of what the worker has for this subscriber.
fn live(world: &mut World) -> Vec<(Place, Vec<u8>)> {
    let (rules, now, mut live) = (world.rules.clone(), world.now, Vec::new());
    let mut each = |news: News<'_>| {
        let News::Messages { groups, messages, .. } = news else { return };
        let listeners = groups.iter().flat_map(|group| &group.listeners);
        for listener in listeners.filter(|listener| listener.token == token(9)) {
            let due = listener.due(messages).iter();
            live.extend(due.map(|message| ((message.time, message.tag), message.text.to_vec())));
        }
    };
    while world.hub(0).deliver(&rules, now, &mut each) {}
    live
}

#[test]
fn a_cursor_is_a_place_of_this_zone_or_a_gap() {
    let mut world = World::new(ZONE, 1);
    let a: &[(&[u8], Option<u64>)] = &[(b"a", Some(1))];
    for text in [b"1", b"2", b"3"] {
        world.publish(0, &[b"a"], text, true).expect("room");
        world.now += 10;
    }
    let time = world.now.wall - 30;
    let cases = [
        (LIFE, time, 1, None, 2),
        (LIFE, time, 0, None, 3),
        (LIFE, 0, 0, None, 3),
        (LIFE, time, u64::MAX, None, 2),
        (LIFE, time + 20, 1, None, 0),
        (LIFE, time + 20, 2, Some(Gap::Unknown), 0),
        (LIFE, time + 21, 0, Some(Gap::Unknown), 0),
        (LIFE, Seconds::MAX, u64::MAX, Some(Gap::Unknown), 0),
        (LIFE + 1, time, 1, Some(Gap::Restarted), 0),
        (u64::MAX, Seconds::MAX, 0, Some(Gap::Restarted), 0),
    ];
    for (life, time, tag, gap, count) in cases {
        let cursor = Some(Cursor { life, time, tag, latest: None });
        // Nothing else counts, also not the backtrack.
        let since = Since { time: Some(0), tag: Some(0), event_id: None, cursor };
        let mut subscribed = subscribe(&mut world, &ordered(a, since));
        assert_eq!(subscribed.gap(), gap, "{cursor:?}");
        let begins_at = subscribed.beginning().at(None).place;
        let expected = if gap.is_none() { (time, tag) } else { subscribed.place().place };
        assert_eq!(begins_at, expected, "{cursor:?}");
        assert_eq!(old(&mut world, &mut subscribed).len(), count, "{cursor:?}");
        assert_eq!(live(&mut world), []);
        world.publish(0, &[b"a"], b"live", false).expect("room");
        assert_eq!(live(&mut world).len(), 1);
        // As it was.
        world = {
            let mut again = World::new(ZONE, 1);
            for text in [b"1", b"2", b"3"] {
                again.publish(0, &[b"a"], text, true).expect("room");
                again.now += 10;
            }
            again
        };
    }
}

#[test]
fn old_messages_of_several_channels_come_in_the_order_of_publishing() {
    for room in 1..8 {
        let mut world = World::new(ZONE, 1);
        let channels: &[(&[u8], Option<u64>)] =
            &[(b"a", Some(100)), (b"none", Some(9)), (b"b", Some(100)), (b"c", Some(2))];
        let mut expected = Vec::new();
        for number in 0..30_u8 {
            let id = [b"a", b"a", b"b", b"c", b"b"][usize::from(number * 7 % 5)].as_slice();
            if number == 17 {
                world.now += 1;
            }
            world.publish(0, &[id], &[number], number % 4 != 1).expect("room");
            if number % 4 != 1 {
                expected.push((id, number));
            }
        }
        let of_c = expected.iter().filter(|(id, _)| *id == b"c").count();
        let mut seen = 0;
        expected.retain(|(id, _)| {
            seen += usize::from(*id == b"c");
            *id != b"c" || seen > of_c - 2
        });
        let expected: Vec<u8> = expected.into_iter().map(|(_, number)| number).collect();

        let request = Subscribe { stay: Stay::No, ..ordered(channels, Since::default()) };
        let mut subscribed = subscribe(&mut world, &request);
        let (mut numbers, now) = (Vec::new(), world.now);
        let mut left = room;
        let mut replayed = world.hub(0).read_backlog(&mut subscribed, now, &mut |message| {
            numbers.push(message.text[0]);
            left -= 1;
            left > 0
        });
        assert_eq!(replayed.messages as usize, numbers.len());
        while let Some(rest) = replayed.rest.take() {
            let (texts, rest) = world.read_on(0, rest, room).expect("it is all there");
            assert!(!texts.is_empty());
            numbers.extend(texts.iter().map(|text| text[0]));
            replayed.rest = rest;
        }
        assert_eq!(numbers, expected, "{room}");
        world.check("at rest");
    }
}

#[test]
fn a_reader_that_is_too_slow_for_one_of_its_channels_lags() {
    let channels: &[(&[u8], Option<u64>)] = &[(b"a", Some(9)), (b"b", Some(9))];
    let lagged = |a, b| {
        let left = [(b"a", a), (b"b", b)].map(|(id, left)| (id.as_slice().into(), left));
        Lagged { left: left.into(), gone: Vec::new() }
    };
    for acts in 0..3 {
        let mut world = World::new(ZONE, 1);
        for text in [b"1", b"2", b"3"] {
            world.publish(0, &[b"a"], text, true).expect("room");
            world.rules.message_ttl_secs = 1000;
            world.publish(0, &[b"b"], text, true).expect("room");
        }
        let request = Subscribe { stay: Stay::No, ..ordered(channels, Since::default()) };
        let mut subscribed = subscribe(&mut world, &request);
        let now = world.now;
        let replayed = world.hub(0).read_backlog(&mut subscribed, now, &mut |_| false);
        let rest = replayed.rest.expect("five more");
        assert_eq!(rest.channels().count(), 2);
        match acts {
            0 => {
                world.now += 1000;
                assert_eq!(world.read_on(0, rest, 9).map(|_| ()), Err(lagged(2, 3)));
            }
            1 => {
                world.rules.stored_max = Some(1);
                world.publish(0, &[b"a"], b"4", true).expect("room");
                assert_eq!(world.read_on(0, rest, 9).map(|_| ()), Err(lagged(2, 2)));
            }
            _ => {
                world.delete(0, b"b", b"bye");
                let (rules, now) = (world.rules.clone(), world.now);
                let read = world.hub(0).read_on(rest, now, &mut |_| true).expect("it goes on");
                assert!(read.rest.is_none());
                assert_eq!(read.gone, [Box::from(&b"b"[..])]);
                drop(rules);
            }
        }
        world.check("at rest");
    }
}

/// Others publish between any two sections of a subscription.
#[test]
fn what_is_published_while_channels_are_attached_is_old_in_all_of_them_or_live_in_all() {
    let channels: &[(&[u8], Option<u64>)] = &[(b"a", None), (b"b", None), (b"c", None)];
    let (mut has_old, mut has_live, mut gaps) = (0, 0, 0);
    for at in 0..12 {
        for (other, store, burst) in [
            (None, true, 1),
            (Some(0), true, 1),
            (Some(2), true, 1),
            (None, false, 1),
            (Some(0), false, 1),
            (Some(2), false, 1),
            (None, true, 400),
            (Some(0), true, 400),
        ] {
            let mut world = World::new(4 << 20, 3);
            for id in [b"a", b"b", b"c"] {
                world.publish(1, &[id], id, true).expect("room");
            }
            if let Some(worker) = other {
                world.subscribe(worker, channels, 1).expect("room");
            }
            let mut publisher = world.workers[1].take().expect("it lives");
            let (rules, now) = (world.rules.clone(), world.now);
            let mut step = 0;
            world.hub(0).store.between.set(move || {
                if step == at {
                    for number in 0..burst {
                        for id in [b"c", b"b", b"a"] {
                            let text = format!("{}{number}", char::from(id[0]));
                            publish(&mut publisher, (&rules, now), id, text.as_bytes(), store);
                        }
                    }
                }
                step += 1;
            });
            let since = Since { time: Some(0), tag: Some(0), ..Since::default() };
            let mut subscribed = subscribe(&mut world, &ordered(channels, since));
            world.hub(0).store.between.clear();
            let place = subscribed.place().place;
            let (old, live) = (old(&mut world, &mut subscribed), live(&mut world));
            let what = format!("{at} {other:?} {store} {burst}");
            assert!(old.is_sorted() && old.iter().all(|(at, _)| *at <= place), "{what}");
            assert!(live.iter().all(|(at, _)| *at > place), "{what}");
            let mut all: Vec<_> = old.iter().chain(&live).map(|(at, _)| *at).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), old.len() + live.len(), "{what}: twice");
            let was_published = live.len() + old.len() > 3 || step_of(&mut world, &what);
            let is_whole = all.len() == 3 + 3 * burst || all.len() == 3 && !was_published;
            assert!(
                is_whole || subscribed.gap() == Some(Gap::Unstored) && !store,
                "{what} {all:?}"
            );
            assert!(!is_whole || subscribed.gap().is_none(), "{what}: a gap in vain");
            has_old += usize::from(old.len() > 3);
            has_live += usize::from(!live.is_empty());
            gaps += usize::from(subscribed.gap().is_some());
        }
    }
    assert!(has_old > 3 && has_live > 3 && gaps > 0, "{has_old} {has_live} {gaps}");
}

/// Each attempt to attach it is overtaken.
#[test]
fn a_flood_of_messages_that_are_not_stored_keeps_nobody_out() {
    let channels: &[(&[u8], Option<u64>)] = &[(b"a", None), (b"b", None)];
    let mut world = World::new(4 << 20, 2);
    world.subscribe(0, channels, 1).expect("room");
    let mut publisher = world.workers[1].take().expect("it lives");
    let (rules, now) = (world.rules.clone(), world.now);
    world.hub(0).store.between.set(move || {
        publish(&mut publisher, (&rules, now), b"b", b"text", false);
    });
    let since = Since { time: Some(0), tag: Some(0), ..Since::default() };
    let subscribed = subscribe(&mut world, &ordered(channels, since));
    world.hub(0).store.between.clear();
    assert_eq!(subscribed.gap(), Some(Gap::Unstored));
    world.check("at rest");
}

/// Has the other worker published anything?
fn step_of(world: &mut World, what: &str) -> bool {
    let info = world.hub(0).info(b"a").unwrap_or_else(|| panic!("{what}: it exists"));
    info.published > 1
}
