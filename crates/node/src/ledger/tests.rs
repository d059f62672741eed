use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use signalbox_socketio::Message;

use super::{
    accounts::{EVICTION_TIMEOUT, LEAST_GAIN, STUCK_AFTER},
    *,
};

/// What all clients may hold without the reserve.
const LIMIT: usize = 1_000_000;
const BUDGET: usize = LIMIT * 4 / 3;

fn address(last: u8) -> Option<IpAddr> {
    Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
}

/// A ledger, and its clients: two each of the addresses 1, 2 and 3.
fn clients() -> (Arc<Ledger>, Vec<Charge>) {
    let ledger = Arc::new(Ledger::new(BUDGET));
    let account = |number: u8| ledger.account(address(1 + number / 2), EvictAt::Shard(0));
    let charges = (0..6).map(|number| Charge::new(account(number))).collect();
    (ledger, charges)
}

fn is_victim(ledger: &Ledger, of: &Charge) -> bool {
    let victim = ledger.next_victim().expect("somebody has to go");
    ledger.evicted();
    Arc::ptr_eq(&victim, of.account())
}

#[test]
fn whoever_costs_most_by_address_goes() {
    let (ledger, clients) = clients();
    clients[0].set(400_000, 0);
    clients[2].set(300_000, 0);
    clients[3].set(250_000, 0);
    assert!(ledger.next_victim().is_none(), "the budget is kept");
    clients[4].set(100_000, 0);
    assert!(is_victim(&ledger, &clients[2]), "its address costs more than the one that costs most alone");
    assert_eq!(ledger.held(), 1_050_000);
    assert!(is_victim(&ledger, &clients[3]), "nobody is told twice");
}

#[test]
fn one_goes_at_a_time_unless_it_takes_too_long() {
    let (ledger, clients) = clients();
    clients[0].set(LIMIT, 0);
    clients[2].set(LIMIT, 0);
    let start = Instant::now();
    ledger.observe(start);
    assert!(ledger.next_victim().is_some());
    assert!(ledger.next_victim().is_none());
    ledger.observe(start + EVICTION_TIMEOUT + Duration::from_millis(2));
    assert!(ledger.next_victim().is_some());
    assert!(ledger.next_victim().is_none());
}

#[test]
fn who_does_not_move_goes_before_who_does() {
    let (ledger, clients) = clients();
    clients[0].set(700_000, 0);
    clients[2].set(400_000, 0);
    ledger.observe(Instant::now() + 2 * STUCK_AFTER);
    // It has read some of what waited.
    clients[0].set(690_000, 0);
    assert!(is_victim(&ledger, &clients[2]));
}

#[test]
fn what_is_dropped_is_released_and_its_holders_are_forgotten() {
    let (ledger, clients) = clients();
    clients.iter().for_each(|client| client.set(1_000, 10));
    assert_eq!((ledger.held(), ledger.waiting()), (6_000, 6_060));
    drop(clients);
    assert_eq!((ledger.held(), ledger.waiting()), (0, 0));
    assert!(ledger.holders.lock().unwrap().is_empty());
}

#[test]
fn shared_bytes_are_charged_once_and_never_to_honest_members() {
    let (ledger, clients) = clients();
    let size = LIMIT / 2;
    let message = Message::event("/", None, "message", &["\"", &"x".repeat(size), "\""], &[]);
    let message = share(&ledger, Some(clients[0].account()), message);
    // A crowd of members that have yet to read it.
    let members: Vec<_> = (0..200)
        .map(|number| {
            let charge = Charge::new(ledger.account(address(50 + number), EvictAt::Shard(0)));
            charge.set(OVERHEAD, message.len());
            (charge, message.clone())
        })
        .collect();
    assert!(ledger.waiting() > 100 * LIMIT);
    assert!(ledger.held() < LIMIT && ledger.next_victim().is_none(), "its bytes are there once");

    // Somebody else is what makes it too much, by far less than each member has yet to read.
    clients[4].set(LIMIT / 10 * 6, 0);
    assert!(is_victim(&ledger, &clients[4]), "who holds most goes first");
    assert!(is_victim(&ledger, &clients[0]), "then who has sent so much");
    assert!(members.iter().all(|(member, _)| member.account().may_be_cut_off()), "no member was told to go");
    drop((members, message));
    assert_eq!(ledger.held(), LIMIT / 10 * 6);
}

#[test]
fn members_that_read_are_never_charged_for_what_others_send_them_even_if_they_share_an_address() {
    let (ledger, clients) = clients();
    let size = LIMIT / 2;
    let text = "x".repeat(size);
    let message = || Message::event("/", None, "message", &["\"", &text, "\""], &[]);
    let messages: Vec<_> = (0..3).map(|_| share(&ledger, Some(clients[0].account()), message())).collect();
    // All members of a crowd come from one address, and have yet to read all three.
    let unread = messages.iter().map(|message| message.len()).sum();
    let members: Vec<_> = (0..2_000)
        .map(|_| {
            let charge = Charge::new(ledger.account(address(50), EvictAt::Shard(0)));
            charge.set(3 * OVERHEAD, unread);
            charge
        })
        .collect();
    assert!(ledger.is_over());
    assert!(is_victim(&ledger, &clients[0]), "who has sent it goes");
    // One of those that read nothing more is charged for its part; those that go on are not.
    ledger.observe(Instant::now() + 2 * STUCK_AFTER);
    let stuck = Charge::new(ledger.account(address(60), EvictAt::Shard(0)));
    stuck.set(size, unread);
    ledger.observe(Instant::now() + 4 * STUCK_AFTER);
    members.iter().for_each(|member| member.account().moved());
    assert!(is_victim(&ledger, &stuck));
    drop((messages, members));
}

#[test]
fn bytes_stay_charged_for_as_long_as_anybody_has_them() {
    let (ledger, mut clients) = clients();
    let charge = clients.remove(0);
    charge.set(5, 0);
    let bytes = charged(bytes::Bytes::from_static(b"bytes"), charge);
    let part = bytes.slice(2..);
    drop(bytes);
    assert_eq!(ledger.held(), 5);
    drop(part);
    assert_eq!(ledger.held(), 0);
}

#[test]
fn there_is_room_up_to_the_budget_and_then_one_waits() {
    let (ledger, clients) = clients();
    for client in &clients[..4] {
        assert_eq!(ledger.take_room(client, LIMIT / 4), Ok(()));
    }
    assert_eq!(ledger.held(), LIMIT);
    assert_eq!(ledger.take_room(&clients[4], LIMIT / 4), Err(Lane::Heavy));
    assert_eq!(ledger.held(), LIMIT, "nothing is charged for who waits");
    let waits = ledger.wait(clients[4].account(), Lane::Heavy);
    clients[0].set(0, 0);
    assert_eq!(ledger.take_room(&clients[5], LIMIT / 4), Err(Lane::Heavy), "one behind another");
    assert!(ledger.take_within_budget(&clients[4], LIMIT / 4));
    drop(waits);
    clients[1].set(0, 0);
    assert_eq!(ledger.take_room(&clients[5], 2 * LIMIT), Ok(()), "what can never be there is not waited for");
    assert_eq!(ledger.held(), LIMIT);
    drop(clients);
    assert_eq!(ledger.held(), 0);
}

#[test]
fn addresses_that_hold_little_have_a_reserve_at_the_expense_of_one_that_holds_much() {
    let (ledger, clients) = clients();
    let little = LIMIT / 20;
    // One address holds all there is, and more of it waits.
    clients[0].set(LIMIT / 2, 0);
    clients[1].set(LIMIT / 2, 0);
    let more = Charge::new(ledger.account(address(1), EvictAt::Shard(0)));
    assert_eq!(ledger.take_room(&more, little), Err(Lane::Heavy));
    let _waits = ledger.wait(more.account(), Lane::Heavy);

    assert_eq!(ledger.take_room(&clients[2], little), Ok(()), "its address holds little");
    assert!(ledger.is_over() && !ledger.is_beyond_reserve());
    assert_eq!(ledger.take_room(&clients[3], little), Err(Lane::Heavy), "now it does not");
    assert!(is_victim(&ledger, &clients[1]), "not who took it");
    assert_eq!(ledger.take_room(&clients[4], little), Ok(()));
    let others: Vec<_> =
        (0..10).map(|number| Charge::new(ledger.account(address(10 + number), EvictAt::Shard(0)))).collect();
    let taken = others.iter().filter(|other| ledger.take_room(other, little) == Ok(())).count();
    assert_eq!(taken, 4, "the reserve has an end");
    assert!(!ledger.is_beyond_reserve());
}

#[test]
fn where_nobody_holds_much_there_is_no_reserve() {
    let (ledger, _) = clients();
    let many: Vec<_> =
        (0..21).map(|number| Charge::new(ledger.account(address(number), EvictAt::Shard(0)))).collect();
    let lanes: Vec<_> = many.iter().map(|client| ledger.take_room(client, LIMIT / 20)).collect();
    assert!(lanes[..20].iter().all(|lane| *lane == Ok(())));
    assert_eq!(lanes[20], Err(Lane::Light));
    assert!(!ledger.is_over());
    // One that has waited long goes on all the same, and somebody else goes for it.
    assert!(ledger.force_room(&many[20], LIMIT / 20));
    assert!(!ledger.force_room(&many[20], LIMIT / 10), "one at a time");
    assert!(ledger.next_victim().is_some());
}

#[test]
fn while_the_budget_is_kept_only_those_go_that_do_not_move_and_hold_enough() {
    let (ledger, clients) = clients();
    clients[0].set(LIMIT / 2, 0);
    clients[2].set(LIMIT / 4, 0);
    clients[3].set(LIMIT / 8, 0);
    clients[4].set(LEAST_GAIN - 1, 0);
    let little = Charge::new(ledger.account(address(4), EvictAt::Shard(0)));
    let next = || {
        let victim = ledger.next_stuck(&little, LEAST_GAIN);
        ledger.evicted();
        victim
    };
    assert!(next().is_none(), "all have just moved");
    let later = Instant::now() + 2 * STUCK_AFTER;
    ledger.observe(later);
    clients[0].account().moves(later);
    let waits = ledger.wait(clients[2].account(), Lane::Heavy);
    assert!(!ledger.is_over());
    assert!(next().is_some_and(|victim| Arc::ptr_eq(&victim, clients[3].account())));
    assert!(next().is_none(), "one moves, one waits, one holds next to nothing");
    // It has its time again after it has waited.
    drop(waits);
    assert!(next().is_none());
    let later = Instant::now() + 4 * STUCK_AFTER;
    ledger.observe(later);
    clients[0].account().moves(later);
    assert!(next().is_some_and(|victim| Arc::ptr_eq(&victim, clients[2].account())));
}

#[test]
fn who_fills_the_budget_has_nobody_cut_off_whose_address_weighs_less() {
    let (ledger, clients) = clients();
    let honest = LIMIT / 20;
    clients[0].set(LIMIT / 2, 0);
    clients[1].set(LIMIT / 4, 0);
    clients[2].set(honest, 0);
    let more = Charge::new(ledger.account(address(1), EvictAt::Shard(0)));
    more.set(LEAST_GAIN, 0);
    let _waits = ledger.wait(more.account(), Lane::Heavy);
    let later = Instant::now() + 2 * STUCK_AFTER;
    // All that the address holds trickles.
    [&clients[0], &clients[1]].into_iter().for_each(|client| client.account().moves(later));
    let next = |waiting: &Charge, bytes| {
        let victim = ledger.next_stuck(waiting, bytes);
        ledger.evicted();
        victim
    };
    assert!(next(&more, LEAST_GAIN).is_none());
    // Nor by one that would hold more then than the one that goes weighs.
    let other = Charge::new(ledger.account(address(4), EvictAt::Shard(0)));
    assert!(next(&other, 4 * honest + 1).is_none());
    // What it has charged already is not counted twice.
    other.set(honest, 0);
    assert!(next(&other, 4 * honest).is_some_and(|victim| Arc::ptr_eq(&victim, clients[2].account())));
    // Its own goes as soon as it stops.
    clients[1].account().moves(later - 2 * STUCK_AFTER);
    ledger.observe(later);
    assert!(next(&more, LEAST_GAIN).is_some_and(|victim| Arc::ptr_eq(&victim, clients[1].account())));
}

#[test]
fn an_answer_moves_with_its_connection() {
    let ledger = Arc::new(Ledger::new(BUDGET));
    let hangup = Arc::new(Hangup::default());
    let answer = Charge::new(ledger.account(address(1), EvictAt::Connection(hangup.clone())));
    answer.set(LEAST_GAIN, 0);
    let waiting = Charge::new(ledger.account(address(2), EvictAt::Shard(0)));
    ledger.observe(Instant::now() + 2 * STUCK_AFTER);
    hangup.moved(ledger.now());
    assert!(ledger.next_stuck(&waiting, LEAST_GAIN).is_none());
    ledger.observe(Instant::now() + 4 * STUCK_AFTER);
    assert!(ledger.next_stuck(&waiting, LEAST_GAIN).is_some());
}

#[tokio::test]
async fn addresses_take_turns_however_many_of_one_wait() {
    let (ledger, _) = clients();
    let charges = [1, 1, 1, 2].map(|last| Charge::new(ledger.account(address(last), EvictAt::Shard(0))));
    let waits: Vec<_> = charges.iter().map(|charge| ledger.wait(charge.account(), Lane::Light)).collect();
    let mut turns: Vec<_> =
        charges.iter().zip(&waits).map(|(charge, waits)| Box::pin(waits.turn(charge, LEAST_GAIN))).collect();
    let first = turns[0].as_mut().now_or_never().expect("there is nobody before it");
    for turn in &mut turns[1..] {
        assert!(turn.as_mut().now_or_never().is_none());
    }
    drop(first);
    assert!(turns[1].as_mut().now_or_never().is_none(), "the other address has its turn");
    let other = turns[3].as_mut().now_or_never().expect("its turn");
    drop(other);
    assert!(turns[2].as_mut().now_or_never().is_none(), "one behind another");
    assert!(turns[1].as_mut().now_or_never().is_some());
}

#[tokio::test]
async fn whoever_s_address_has_come_to_hold_much_leaves_the_light_lane() {
    let (ledger, clients) = clients();
    let more = Charge::new(ledger.account(address(1), EvictAt::Shard(0)));
    let (first, second) = (&clients[0], &clients[2]);
    let waits = [first, second, &more].map(|charge| ledger.wait(charge.account(), Lane::Light));
    let mut turn = waits[0].turn(first, LEAST_GAIN).await;
    assert_eq!(waits[0].lane(), Lane::Light);
    let mut behind = Box::pin(waits[1].turn(second, LEAST_GAIN));
    assert!(behind.as_mut().now_or_never().is_none());
    clients[1].set(LIMIT / 4, 0);
    assert_eq!(ledger.lane_of(first, LEAST_GAIN), Lane::Heavy);
    waits[0].change(&mut turn, Lane::Heavy).await;
    assert!(behind.as_mut().now_or_never().is_some(), "the light lane goes on");
    // The next of the address does not even enter it.
    drop(turn);
    let turn = waits[2].turn(&more, LEAST_GAIN).await;
    assert_eq!(waits[2].lane(), Lane::Heavy);
    drop((turn, behind));
    drop(waits);
    assert!(ledger.waiting.is_empty());
}

#[tokio::test]
async fn those_who_wait_are_woken_one_after_the_other() {
    let (ledger, clients) = clients();
    clients[0].set(LIMIT, 0);
    let (first, second) =
        (ledger.wait(clients[2].account(), Lane::Heavy), ledger.wait(clients[3].account(), Lane::Heavy));
    let turn = first.turn(&clients[2], LEAST_GAIN).await;
    let soon = Duration::from_millis(20);
    assert!(tokio::time::timeout(soon, second.turn(&clients[3], LEAST_GAIN)).await.is_err());
    let mut released = std::pin::pin!(ledger.released());
    released.as_mut().enable();
    clients[0].set(0, 0);
    released.await;
    drop(turn);
    drop(first);
    drop(second.turn(&clients[3], LEAST_GAIN).await);
}
