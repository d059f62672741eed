//! A short run of every scenario against a gateway of its own. What must be heard is counted; nothing is timed.

mod faulty;
mod harness;

use harness::{Server, loadtest, run};

#[test]
fn idle_clients_each_get_the_message() {
    let report = run(
        &Server::gateway(),
        "idle --clients 40 --seconds 0.2 --room --message 4096 --settle 0.1 --after 0.2 --processes 2",
    );
    // A room for each of the two processes, and a sender in each.
    assert_eq!(report.delivered("message"), 38);
    assert_eq!(report.number("idle", "connections"), 40);
    assert_eq!(report.number("after all left", "connections"), 0);
}

#[test]
fn idle_peers_are_held() {
    let report = run(&Server::gateway(), "idle --clients 20 --seconds 0.2 --peerserver");
    assert_eq!(report.number("idle", "connections"), 20);
}

#[test]
fn fanout_reaches_all_others_of_the_room() {
    let options =
        "fanout --rooms 4 --members 10 --senders 3 --rate 1800 --seconds 1 --warm-up 0.2 --processes 2";
    let report = run(&Server::gateway(), options);
    // 200 messages, each heard by the nine others.
    assert_eq!(report.number("measure", "messages"), 200);
    assert_eq!(report.delivered("measure"), 1800);
}

#[test]
fn fanout_expects_nothing_of_those_who_do_not_read() {
    let report =
        run(&Server::gateway(), "fanout --members 10 --stalled 2 --rate 700 --seconds 0.5 --warm-up 0");
    assert_eq!(report.delivered("measure"), 50 * 7);
}

#[test]
fn fanout_speaks_to_the_handlers_example() {
    let report = run(
        &Server::handlers(),
        "fanout --members 10 --rate 900 --seconds 0.5 --warm-up 0 --dialect handlers",
    );
    assert_eq!(report.delivered("measure"), 50 * 9);
}

#[test]
fn connect_opens_as_many_as_are_due() {
    let report = run(&Server::gateway(), "connect --rate 100 --seconds 1 --processes 2");
    assert_eq!(report.delivered("measure"), 100);
}

#[test]
fn connect_opens_peers_that_stay() {
    let report = run(&Server::gateway(), "connect --rate 100 --seconds 0.5 --stay 30 --peerserver");
    assert_eq!(report.number("measure", "connections"), 50);
}

#[test]
fn auth_lets_in_whoever_has_a_token() {
    let (server, token) = Server::with_tokens();
    for protocol in ["", "--peerserver"] {
        let report = run(&server, &format!("auth --rate 100 --seconds 0.5 --token {token} {protocol}"));
        assert_eq!(report.delivered("measure"), 50);
    }
    // Without one nobody is.
    let (succeeded, _) = loadtest(&format!(
        "connect --rate 20 --seconds 0.2 --patience 0.5 --strict --target {}",
        server.url()
    ));
    assert!(!succeeded);
}

#[test]
fn echo_comes_back_to_the_sender() {
    let report = run(&Server::gateway(), "echo --clients 10 --rate 300 --seconds 1 --warm-up 0.1");
    assert_eq!(report.delivered("measure"), 300);
}

#[test]
fn signals_are_heard_and_acknowledged() {
    let report = run(&Server::gateway(), "signal --pairs 5 --rate 300 --seconds 1");
    assert_eq!(report.delivered("measure"), 300);
    assert_eq!(report.number("measure", "answers"), 300);
}

#[test]
fn offers_and_candidates_are_relayed() {
    let report = run(&Server::gateway(), "relay --pairs 5 --rate 300 --seconds 1 --warm-up 0.1");
    assert_eq!(report.delivered("measure"), 300);
}

#[test]
fn polling_clients_hear_everything() {
    let report = run(&Server::gateway(), "polling --rooms 2 --members 6 --rate 300 --seconds 1");
    assert_eq!(report.delivered("measure"), 300);
}

#[test]
fn polling_clients_miss_nothing_while_they_upgrade() {
    let report = run(&Server::gateway(), "polling --rooms 2 --members 6 --rate 300 --seconds 1.5 --upgrade");
    assert_eq!(report.delivered("measure"), 450);
}

#[test]
fn a_crowd_comes_and_goes() {
    let report =
        run(&Server::gateway(), "churn --clients 40 --seconds 1 --every 0.5 --rest 0.1 --processes 2");
    let answers = report.number("churn", "answers");
    assert!(answers >= 40 * 2 * 4, "{answers}");
    assert_eq!(report.number("churn", "refused"), 0);
}

#[test]
fn a_crowd_joins_one_room() {
    let report = run(&Server::gateway(), "crowd --clients 60 --rest 0.1");
    assert_eq!(report.delivered("join"), 60);
}

#[test]
fn all_of_a_room_come_back_within_a_second() {
    let report = run(&Server::gateway(), "reconnect --clients 60 --rest 0.1");
    assert_eq!(report.delivered("reconnect"), 60);
}

#[test]
fn all_come_back_after_a_storm() {
    let report = run(&Server::gateway(), "storm --clients 30 --rest 0.1");
    assert_eq!(report.delivered("storm 1"), 30);
    assert_eq!(report.number("rest 1", "connections"), 30);
}

#[test]
fn a_mesh_describes_each_pair_both_ways_and_hears_all_come_and_go() {
    let report = run(&Server::gateway(), "mesh --groups 3 --members 4 --rate 8 --seconds 1");
    assert_eq!(report.delivered("measure"), 8 * 12);
    assert_eq!(report.number("measure", "answers"), 8 * 12);
}

#[test]
fn every_credential_that_is_asked_for_is_issued() {
    let options = "turn --connections 4 --rate 400 --seconds 1 --warm-up 0.1 --subjects 7 --bearer sbt_load --processes 2";
    let report = run(&Server::turn(), options);
    assert_eq!(report.delivered("measure"), 400);
    assert_eq!(report.number("connect", "connects"), 4);
}

#[test]
fn several_servers_share_the_clients() {
    let servers = [Server::gateway(), Server::gateway()];
    let report = run(&servers[0], &format!("idle --clients 10 --seconds 0.2 --target {}", servers[1].url()));
    assert_eq!(report.number("idle", "connections"), 10);
    for server in &servers {
        assert_eq!(server.sessions(), 5);
    }
}

#[test]
fn latency_over_time_is_plotted() {
    let directory = harness::directory();
    let plot = directory.join("latency.svg");
    let options = format!("echo --clients 2 --rate 100 --seconds 0.5 --warm-up 0 --svg {}", plot.display());
    run(&Server::gateway(), &options);
    assert!(std::fs::read_to_string(plot).unwrap().contains("<polyline"));
}

#[test]
fn loss_and_duplicates_are_counted_exactly() {
    let server = faulty::Server::start();
    let target = server.url();
    let options = "echo --clients 1 --rate 200 --seconds 0.5 --warm-up 0 --patience 0.5 --dialect generic";
    let (succeeded, report) = loadtest(&format!("{options} --target {target}"));
    assert!(succeeded, "without --strict the counts are told, and that is all");
    // Of 100 messages every tenth is swallowed, and every fourth that is not is said twice.
    assert_eq!(report.number("measure", "lost"), 10);
    assert_eq!(report.number("measure", "duplicates"), 20);
    assert_eq!(report.delivered("measure"), 90);
    let (succeeded, _) = loadtest(&format!("{options} --target {target} --strict"));
    assert!(!succeeded);
}
