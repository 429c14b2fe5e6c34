use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::detect::manual;

const FOUR: EachPace = EachPace { concurrency: 4, per_minute: None };

fn ban(last: u8) -> Event {
    let offender = std::net::Ipv4Addr::new(192, 0, 2, last).to_string().parse().unwrap();
    Event::Banned(manual(offender, Timestamp::default(), None, ""))
}

/// A queue with events of these addresses, numbered from 0.
fn queue(pace: EachPace, addresses: &[u8]) -> EventQueue {
    let mut queue = EventQueue::new(pace, 100, 0, 0.0);
    addresses.iter().for_each(|last| assert_eq!(queue.push(ban(*last), Timestamp::default()), 0));
    queue
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The numbers of all that may go now.
fn taken(queue: &mut EventQueue, at: u64) -> Vec<u64> {
    std::iter::from_fn(|| queue.take(secs(at))).map(|queued| queued.number).collect()
}

#[test]
fn two_of_one_address_are_never_under_way_together() {
    let mut queue = queue(FOUR, &[1, 1, 2, 1, 3, 4, 5]);
    assert_eq!(taken(&mut queue, 0), [0, 2, 4, 5]);
    queue.settled(4);
    assert_eq!(taken(&mut queue, 0), [6]);
    queue.settled(0);
    assert_eq!(taken(&mut queue, 0), [1]);
    assert_eq!((queue.due(), queue.len()), (None, 5));
    [1, 2, 5, 6].iter().for_each(|number| queue.settled(*number));
    assert_eq!(taken(&mut queue, 0), [3]);
    queue.settled(3);
    assert!(queue.is_empty() && queue.due().is_none() && queue.lanes.is_empty());
}

#[test]
fn a_receiver_that_fails_gets_one_attempt_at_a_time_with_growing_pauses() {
    let mut queue = queue(FOUR, &[1, 2, 3, 4, 5, 6]);
    assert_eq!(taken(&mut queue, 0), [0, 1, 2, 3]);
    // Those that fail together are one failure.
    (0..4).for_each(|number| queue.failed(number, None, secs(10)));
    assert_eq!((queue.due(), taken(&mut queue, 10)), (Some(secs(11)), vec![]));
    // Those that wait go before those that have failed.
    assert_eq!(taken(&mut queue, 11), [4]);
    queue.failed(4, None, secs(11));
    assert_eq!((queue.due(), taken(&mut queue, 13)), (Some(secs(13)), vec![5]));
    queue.failed(5, None, secs(13));
    assert_eq!((queue.due(), taken(&mut queue, 17)), (Some(secs(17)), vec![0]));
    queue.settled(0);
    assert_eq!(taken(&mut queue, 17), [1, 2, 3, 4]);
}

#[test]
fn pauses_end_after_five_minutes_and_differ_from_host_to_host() {
    let times = |spread| (1..=12).map(move |failures| pause(failures, spread).as_secs());
    assert_eq!(times(0.0).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    assert_eq!(times(0.5).max(), Some(450));
    assert_eq!(pause(u32::MAX, 1.0), secs(600));
}

#[test]
fn an_event_that_is_never_taken_stops_only_its_own_address() {
    let mut queue = queue(EachPace { concurrency: 1, per_minute: None }, &[1, 1, 2, 3]);
    let (mut at, mut settled) = (0, Vec::new());
    while settled.len() < 2 {
        for number in taken(&mut queue, at) {
            if number == 0 {
                queue.failed(0, None, secs(at));
            } else {
                queue.settled(number);
                settled.push(number);
            }
        }
        at = queue.due().unwrap().as_secs();
    }
    assert_eq!(settled, [2, 3]);
    assert_eq!(queue.len(), 2);
}

#[test]
fn a_receiver_may_say_how_long_to_wait() {
    #[track_caller]
    fn check(asked: u64, want: u64) {
        let mut queue = queue(FOUR, &[1, 2]);
        assert_eq!(taken(&mut queue, 0), [0, 1]);
        queue.failed(0, Some(secs(asked)), secs(5));
        // That another was taken, which had begun before, does not end the pause.
        queue.settled(1);
        queue.push(ban(3), Timestamp::default());
        assert_eq!((queue.due(), taken(&mut queue, 5)), (Some(secs(5 + want)), vec![]));
        assert_eq!(taken(&mut queue, 5 + want), [0]);
        queue.settled(0);
        assert_eq!(taken(&mut queue, 5 + want), [2]);
    }
    check(30, 30);
    check(0, 1);
    check(1_000_000, 3600);
}

#[test]
fn so_many_begin_within_a_minute() {
    let pace = EachPace { concurrency: 4, per_minute: Some(2) };
    let mut queue = queue(pace, &[1, 2, 3, 4, 5]);
    assert_eq!((taken(&mut queue, 0), queue.due()), (vec![0, 1], Some(secs(60))));
    (0..2).for_each(|number| queue.settled(number));
    assert!(taken(&mut queue, 59).is_empty());
    assert_eq!((taken(&mut queue, 60), queue.due()), (vec![2, 3], Some(secs(120))));
}

#[test]
fn the_oldest_makes_room_but_not_one_that_is_under_way() {
    let mut queue = EventQueue::new(FOUR, 3, 0, 0.0);
    let push = |queue: &mut EventQueue, last| queue.push(ban(last), Timestamp::default());
    assert_eq!([1, 1, 2].map(|last| push(&mut queue, last)), [0, 0, 0]);
    assert_eq!(taken(&mut queue, 0), [0, 2]);
    assert_eq!(push(&mut queue, 1), 1);
    queue.settled(0);
    assert_eq!(taken(&mut queue, 0), [3]);
    queue.failed(3, None, secs(0));
    assert_eq!([5, 6, 7].map(|last| push(&mut queue, last)), [0, 1, 1]);
    queue.settled(2);
    assert_eq!(taken(&mut queue, 0), [5, 6]);
}

#[test]
fn a_change_of_the_settings_loses_and_reorders_nothing() {
    let mut queue = queue(FOUR, &[1, 1, 2, 3]);
    assert_eq!(taken(&mut queue, 0), [0, 2, 3]);
    queue.failed(2, None, secs(0));
    queue.restart(EachPace { concurrency: 2, per_minute: None });
    assert_eq!(taken(&mut queue, 0), [0, 2]);
    [0, 2].iter().for_each(|number| queue.settled(*number));
    assert_eq!(taken(&mut queue, 0), [1, 3]);
}

proptest! {
    /// Whatever a receiver does, the events of an address arrive in their order and once each, no more than allowed are
    /// under way, and all arrive that did not make room for others.
    #[test]
    fn order_is_kept_and_nothing_is_lost(
        steps in proptest::collection::vec((0u8..6, 0u8..8, 0u64..100), 1..400),
        concurrency in 1usize..5,
        per_minute in proptest::option::of(1usize..20),
        limit in 5usize..50,
    ) {
        let mut queue = EventQueue::new(EachPace { concurrency, per_minute }, limit, 0, 0.0);
        let (mut now, mut pushed, mut dropped) = (Duration::ZERO, 0u64, 0);
        let mut under_way: BTreeMap<u64, QueuedEvent> = BTreeMap::new();
        let mut arrived: Vec<QueuedEvent> = Vec::new();
        let mut begun: Vec<Duration> = Vec::new();
        let mut step = |queue: &mut EventQueue, what: u8, which: u8, passed: u64| {
            now += Duration::from_millis(passed * 100);
            match what {
                0 | 1 => {
                    dropped += queue.push(ban(which), Timestamp::default());
                    pushed += 1;
                }
                2 => while let Some(queued) = queue.take(now) {
                    begun.push(now);
                    let mut others = under_way.values();
                    prop_assert!(others.all(|other| other.event.offender() != queued.event.offender()));
                    prop_assert!(under_way.insert(queued.number, queued).is_none());
                },
                _ => if let Some(number) = under_way.keys().nth(which.into()).copied() {
                    let queued = under_way.remove(&number).unwrap();
                    match what {
                        3 => queue.failed(number, (passed > 50).then(|| secs(passed)), now),
                        _ => {
                            queue.settled(number);
                            arrived.push(queued);
                        }
                    }
                },
            }
            prop_assert!(under_way.len() <= concurrency);
            prop_assert!(queue.len() <= limit);
            Ok(())
        };
        for (what, which, passed) in steps {
            step(&mut queue, what, which, passed)?;
        }
        // From here on all goes well.
        for _ in 0..limit * 3 {
            (0..4).try_for_each(|_| step(&mut queue, 4, 0, 0))?;
            step(&mut queue, 2, 0, 36_000)?;
        }
        prop_assert!(queue.is_empty() && queue.lanes.is_empty() && queue.ready.is_empty() && queue.paused.is_empty());
        prop_assert_eq!(arrived.len() + dropped, pushed as usize);
        let mut last: BTreeMap<Option<Offender>, u64> = BTreeMap::new();
        for queued in &arrived {
            let before = last.insert(queued.event.offender(), queued.number);
            prop_assert!(before.is_none_or(|before| before < queued.number));
        }
        if let Some(limit) = per_minute {
            prop_assert!(begun.windows(limit + 1).all(|begun| begun[limit] >= begun[0] + MINUTE));
        }
    }
}
