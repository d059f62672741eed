//! Real clients against the real program, over real sockets. What each file shows is said at its head.

mod harness;

use harness::Server;

#[test]
fn socketio_client_speaks_the_vocabulary() {
    Server::gateway(&[]).run_js("client.test.mjs");
}

#[test]
fn socketio_chat_is_moved_as_the_page_says() {
    run_reference(&["migrating.test.mjs"]);
    Server::gateway(&[]).run_js("migrating.test.mjs");
}

#[test]
fn rules_as_printed_are_the_vocabulary() {
    let rules = harness::printed_rules("rules-vocabulary");
    Server::gateway(&["--rules", &rules]).run_js("client.test.mjs");
}

#[test]
fn rules_do_every_action_and_refuse_what_they_should() {
    Server::gateway(&["--rules", &harness::rules("every.toml")]).run_js("rules.test.mjs");
}

#[test]
fn rules_keep_to_what_tokens_grant() {
    Server::run_js_alone("rules-tokens.test.mjs");
}

#[test]
fn rules_and_policies_ask_servers_of_the_application() {
    Server::run_js_alone("hooks.test.mjs");
}

#[test]
fn clients_are_told_of_ice_servers() {
    Server::run_js_alone("ice-servers.test.mjs");
}

#[test]
#[ignore = "takes half a minute: cargo xtask soak"]
fn soak_chromium_pages_that_may_only_be_relayed_connect_through_coturn() {
    let turn = harness::turn_program();
    let environment = [("TURN_BIN", turn.as_str())];
    Server::run_js_alone_within(harness::DEADLINE, "relay.test.mjs", &environment);
}

#[test]
fn socketio_a_thousand_clients_share_a_room() {
    Server::gateway(&[]).run_js("crowd.test.mjs");
}

#[test]
fn socketio_client_meets_the_handler_api() {
    Server::fixture().run_js("fixture.test.mjs");
}

#[test]
fn handlers_go_on_with_sockets_that_have_moved_to_another_node() {
    let handlers = harness::handlers_program();
    Server::run_js_alone_within(
        harness::DEADLINE,
        "handlers-cluster.test.mjs",
        &[("HANDLERS_BIN", &handlers)],
    );
}

#[test]
#[ignore = "it has the kernel reset connections, which not every kernel does: cargo xtask soak"]
fn soak_clients_notice_nothing_of_links_that_break() {
    Server::run_js_alone_within(harness::DEADLINE, "link-breaks.test.mjs", &[]);
}

#[test]
#[ignore = "27 MB of answers wait for a node that stands still: cargo xtask soak"]
fn soak_answers_of_clients_come_though_too_much_waits_for_the_node_that_has_asked() {
    let handlers = harness::handlers_program();
    let environment = [("HANDLERS_BIN", handlers.as_str()), ("ANSWERS", "30")];
    Server::run_js_alone_within(harness::DEADLINE, "handlers-cluster.test.mjs", &environment);
}

#[test]
fn chromium_a_node_mounted_in_an_app_serves_unmodified_clients() {
    let mut server = Server::mounted();
    server.run_js("mounted.test.mjs");
    server.signal("TERM");
    assert_eq!(server.wait(harness::DEADLINE), Some(0));
}

#[test]
fn engineio_answers_as_the_reference_does() {
    Server::gateway(&[]).run_js("engineio.test.mjs");
}

/// Runs files against the npm server instead: what they expect is what it does.
fn run_reference(files: &[&str]) {
    for file in files {
        Server::run_js_alone_within(harness::DEADLINE, file, &[("REFERENCE", "1")]);
    }
}

#[test]
fn socketio_reference_speaks_as_the_tests_expect() {
    run_reference(&["engineio.test.mjs", "http.test.mjs", "malformed.test.mjs", "fixture.test.mjs"]);
}

#[test]
fn socketio_reference_keeps_time_as_the_tests_expect() {
    run_reference(&["timers.test.mjs", "heartbeats.test.mjs", "deadlines.test.mjs", "nginx.test.mjs"]);
}

#[test]
fn socketio_differences_from_the_reference_are_those_of_the_page() {
    Server::run_js_alone("differences.test.mjs");
}

#[test]
fn http_requests_are_taken_as_the_reference_takes_them() {
    Server::gateway(&[]).run_js("http.test.mjs");
}

#[test]
fn nginx_disconnects_nobody() {
    Server::gateway(&[]).run_js("nginx.test.mjs");
}

#[test]
fn engineio_timers_are_kept() {
    Server::gateway(&[
        "--ping-interval",
        "500",
        "--ping-timeout",
        "700",
        "--upgrade-timeout",
        "600",
        "--connect-timeout",
        "900",
    ])
    .run_js("timers.test.mjs");
}

#[test]
fn engineio_timers_pings_come_when_they_are_due() {
    Server::gateway(&["--ping-interval", "300", "--ping-timeout", "3000"]).run_js("heartbeats.test.mjs");
}

#[test]
fn engineio_timers_a_session_past_its_deadline_is_refused() {
    Server::gateway(&["--ping-interval", "300", "--ping-timeout", "200"]).run_js("deadlines.test.mjs");
}

#[test]
fn malformed_input_harms_nobody_else() {
    // One worker, so that the neighbour shares the thread.
    Server::gateway(&["--workers", "1"]).run_js("malformed.test.mjs");
}

#[test]
fn resilience_faults_of_one_client_stay_its_own() {
    // One client joins as many rooms as it may, at once.
    Server::gateway(&["--joins-per-second", "off"]).run_js("resilience.test.mjs");
}

#[test]
fn peerserver_side_by_side_with_the_reference() {
    Server::gateway(&[]).run_js("peer-side-by-side.test.mjs");
}

#[test]
fn peerserver_keeps_its_promises() {
    Server::gateway(&[]).run_js("peer.test.mjs");
}

#[test]
fn limits_of_clients_are_refusals_and_harm_no_neighbour() {
    Server::run_js_alone("limits.test.mjs");
}

#[test]
fn auth_tokens_and_what_they_grant() {
    Server::run_js_alone("auth.test.mjs");
}

#[test]
fn auth_key_sets_outlive_their_servers() {
    Server::run_js_alone("auth-jwks.test.mjs");
}

#[test]
fn python_socketio_async() {
    Server::gateway(&[]).run_python("test_async.py");
}

#[test]
fn python_socketio_sync() {
    Server::gateway(&[]).run_python("test_sync.py");
}

#[test]
fn chromium_tutorial_pages_work_unchanged() {
    Server::gateway(&["--path", "/peerjs"]).run_js("tutorial.test.mjs");
}

#[test]
fn chromium_tutorial_pages_need_no_other_server() {
    Server::run_js_alone("tutorial-alone.test.mjs");
}

#[test]
fn static_files_are_served_and_nothing_else() {
    Server::run_js_alone("static.test.mjs");
}

#[test]
fn chromium_duplicated_tab_keeps_one_connection() {
    Server::gateway(&[]).run_js("duplicated-tab.test.mjs");
}

#[test]
#[ignore = "takes a minute: cargo xtask soak"]
fn soak_chromium_duplicated_tab_for_a_minute() {
    let minute = [("WATCHED_MS", std::path::Path::new("60000"))];
    Server::gateway(&[]).run_js_within(
        std::time::Duration::from_secs(180),
        "duplicated-tab.test.mjs",
        &minute,
    );
}

#[test]
#[ignore = "fetches many versions of clients: cargo xtask soak"]
fn soak_clients_of_many_versions_and_languages() {
    let limit = std::time::Duration::from_secs(900);
    Server::gateway(&[]).run_js_within(limit, "versions.test.mjs", &[]);
}

#[test]
#[ignore = "fetches many versions of peerjs: cargo xtask soak"]
fn soak_chromium_peerjs_of_many_versions() {
    let limit = std::time::Duration::from_secs(900);
    Server::gateway(&["--path", "/peerjs"]).run_js_within(limit, "versions-peerjs.test.mjs", &[]);
}

#[test]
fn chromium_demo_works_for_two_and_six() {
    Server::gateway(&["--allow_discovery"]).run_js("demo.test.mjs");
}

#[test]
fn chromium_demo_is_safe_from_strangers() {
    Server::gateway(&[]).run_js("demo-strangers.test.mjs");
}

#[test]
fn chromium_demo_runs_with_auth_on() {
    let secret = "a secret of the tests, of more than 32 bytes";
    Server::gateway(&["--auth", "required", "--jwt-secret", secret]).run_js("demo-auth.test.mjs");
}

#[test]
fn chromium_status_page_shows_the_cluster() {
    Server::run_js_alone("status.test.mjs");
}

#[test]
fn chromium_bundles_come_from_the_cdn_without_a_vendor_directory() {
    Server::bare(&[]).run_js("cdn.test.mjs");
}
