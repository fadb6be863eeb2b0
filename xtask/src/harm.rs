//! Attacks a real server, and prints a table: the attack, the bar, and what was seen.
//!
//! The attacks are tests of the host. `cargo xtask test` runs them for their outcomes. Here they run one after the other,
//! and those that measure (`host/tests/harm.rs`) also append rows with milliseconds and MiB to a file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

use crate::guests;
use crate::step::{cargo, step, target};

/// An attack, and the tests that carry it out. A test is named as in the output of `cargo test`.
struct Attack {
    /// The tests add their measurements under this name.
    name: &'static str,
    tests: &'static [&'static str],
}

/// Every attack, in the order of the table.
const ATTACKS: &[Attack] = &[
    Attack {
        name: "slowloris heads",
        tests: &[
            "harm::heads::a_thousand_heads_that_arrive_a_byte_at_a_time_end_at_their_timeout",
            "connect::an_incomplete_request_head_times_out",
        ],
    },
    Attack {
        name: "slow clients of /metrics and admin",
        tests: &["harm::heads::slow_clients_of_metrics_and_admin_end_at_their_timeout_and_take_few_files"],
    },
    Attack {
        name: "responses that are not read",
        tests: &[
            "harm::heads::clients_that_read_no_response_lose_their_connections",
            "slow_peers::a_peer_that_does_not_read_uses_no_more_memory_than_its_outbox",
            "slow_peers::a_peer_that_reads_nothing_for_too_long_is_disconnected",
        ],
    },
    Attack {
        name: "a page that is not read",
        tests: &["harm::threads::readers_of_a_page_that_read_nothing_share_it_and_lose_their_connections"],
    },
    Attack {
        name: "a page that is read slowly",
        tests: &["harm::threads::a_client_that_reads_slowly_gets_the_whole_response"],
    },
    Attack {
        name: "guests that block on slow files",
        tests: &[
            "harm::threads::events_that_block_on_slow_files_delay_no_reload_no_look_up_and_no_file_of_others",
            "blocking_threads::tests::\
             a_group_whose_threads_are_all_blocked_delays_no_other_group_and_no_other_call",
            "capability::http::dial::tests::a_lookup_that_gets_no_free_thread_times_out",
        ],
    },
    Attack {
        name: "guests that open pipes",
        tests: &["harm::threads::a_guest_that_opens_a_pipe_a_device_or_a_socket_gets_an_error_at_once"],
    },
    Attack {
        name: "header bombs",
        tests: &[
            "harm::heads::heads_without_an_end_are_rejected_before_they_use_memory",
            "connect::a_request_head_has_16_kib_and_no_more",
        ],
    },
    Attack {
        name: "endless bodies",
        tests: &[
            "harm::bodies::bodies_without_an_end_are_cut_off_and_kept_nowhere",
            "management::a_slow_body_is_accepted_and_a_body_that_never_arrives_times_out",
        ],
    },
    Attack { name: "tiny messages of eight peers", tests: &["harm::flow::a_flood_of_tiny_messages_delays_no_echo"] },
    Attack {
        name: "tiny messages without a sandbox",
        tests: &["harm::flow::a_flood_of_tiny_messages_without_a_sandbox_delays_no_echo"],
    },
    Attack {
        name: "empty fragments of eight peers",
        tests: &["harm::flow::a_flood_of_empty_fragments_delays_no_echo"],
    },
    Attack { name: "pings of eight peers", tests: &["harm::flow::a_flood_of_pings_delays_no_echo"] },
    Attack {
        name: "thousands of tiny messages at once",
        tests: &[
            "harm::flow::while_eight_peers_send_thousands_of_tiny_messages_an_echo_is_answered_again_and_again",
            "server::turn::tests::a_turn_ends_after_32_messages_or_a_millisecond",
        ],
    },
    Attack {
        name: "large backlogs",
        tests: &[
            "harm::flow::backlogs_of_three_hundred_peers_are_answered_and_their_memory_is_given_back",
            "server::connection::backlog::tests::\
             sixteen_messages_wait_or_as_many_bytes_as_the_limit_and_the_message_that_reaches_it",
        ],
    },
    Attack {
        name: "more for all peers than fits",
        tests: &[
            "harm::flow::a_post_beyond_the_memory_of_all_peers_closes_the_one_that_holds_most_and_no_other",
            "harm::flow::messages_that_never_end_count_and_no_peer_is_read_until_the_worst_are_closed",
            "harm::flow::a_broadcast_to_peers_that_do_not_read_counts_once",
        ],
    },
    Attack {
        name: "large messages on idle connections",
        tests: &[
            "harm::buffers::a_large_broadcast_leaves_nothing_on_idle_connections",
            "harm::buffers::large_messages_leave_nothing_on_the_connections_that_sent_them",
        ],
    },
    Attack {
        name: "redirects into private networks",
        tests: &[
            "harm::network::a_redirect_leads_a_guest_to_no_host_that_is_not_listed",
            "integrations::the_response_body_comes_back_for_every_status",
            "capability::http::tests::a_redirect_is_returned_and_not_followed",
        ],
    },
    Attack {
        name: "rebinding of names",
        tests: &[
            "harm::network::a_listed_name_of_a_private_address_is_rejected_by_the_manifest_or_at_every_request",
            "capability::http::dial::tests::addresses_that_are_not_public_are_removed",
            "capability::http::dial::tests::the_loopback_addresses_of_a_name_are_rejected_unless_the_scope_is_any",
            "capability::http::dial::tests::a_number_that_the_resolver_reads_as_an_address_is_checked_as_that_address",
        ],
    },
    Attack {
        name: "deep recursion of a guest",
        tests: &[
            "limits::deep_recursion_traps_and_the_server_keeps_running",
            "limits::host_calls_do_not_overflow_the_host_however_deep_the_guests_stack_is",
        ],
    },
    Attack {
        name: "guests that take memory in every way",
        tests: &[
            "harm::memory::guests_in_all_places_take_little_more_than_the_memory_of_all_events",
            "guest_memory::what_the_host_holds_for_an_event_counts_as_its_memory",
            "guest_memory::a_plugin_that_takes_all_the_memory_it_can_get_leaves_another_one_its_share",
            "guest_memory::an_event_without_memory_waits_and_is_rejected_after_five_seconds",
        ],
    },
    Attack {
        name: "guests with many memories and tables",
        tests: &["harm::memory::guests_with_many_memories_and_tables_take_little_more_than_the_memory_of_all_events"],
    },
    Attack {
        name: "wrong UTF-8 and deep JSON of peers",
        tests: &[
            "harm::text::handshakes_with_bytes_that_are_not_utf_8_and_messages_of_many_brackets_are_answered",
            "messages::a_text_message_must_be_utf8_as_a_whole",
            "management::a_body_that_is_not_utf_8_is_a_bad_request_and_nothing_of_it_is_delivered",
        ],
    },
    Attack {
        name: "wrong UTF-8 of a guest",
        tests: &["harm::text::strings_of_a_guest_that_are_not_utf_8_or_outside_of_its_memory_fail_only_its_event"],
    },
    Attack {
        name: "250 reloads in a row",
        tests: &[
            "harm::reloads::after_250_reloads_in_a_row_every_connection_is_open_and_has_the_last_version",
            "reload_under_load::\
             fifty_reloads_with_200_active_peers_lose_no_connection_and_no_response_and_no_version_goes_backwards",
        ],
    },
    Attack {
        name: "100 MB dropped in",
        tests: &["harm::files::a_component_of_100_mb_is_rejected_unread_and_one_of_64_mib_goes_live"],
    },
    Attack {
        name: "no file dropped in",
        tests: &["harm::files::a_component_that_is_a_pipe_a_device_or_a_loop_of_links_is_rejected_unread"],
    },
    Attack {
        name: "files replaced while they compile",
        tests: &[
            "harm::files::a_component_that_is_replaced_while_it_compiles_goes_live_in_its_last_version",
            "reload::a_change_at_any_time_during_the_start_is_noticed",
        ],
    },
    Attack {
        name: "files overwritten in place",
        tests: &[
            "harm::files::a_component_that_is_overwritten_again_and_again_goes_live_when_it_is_whole",
            "reload::a_component_written_in_pieces_goes_live_when_it_is_complete",
        ],
    },
    Attack {
        name: "250 spinning events",
        tests: &[
            "harm::shares::others_are_served_while_250_events_of_one_plugin_compute_without_end",
            "shares::a_plugin_with_two_events_does_as_much_work_as_one_with_250",
            "shares::a_plugin_that_is_alone_uses_every_processor",
            "shares::events_that_time_out_or_fail_while_they_wait_for_a_turn_leave_the_turns_to_others",
        ],
    },
    Attack {
        name: "events of 9 ms",
        tests: &["harm::shares::others_are_served_while_128_peers_send_messages_whose_handler_computes_for_9_ms"],
    },
    Attack {
        name: "events of 0.9 ms",
        tests: &["harm::shares::\
             others_are_served_while_128_peers_send_messages_whose_handler_computes_for_just_less_than_an_epoch"],
    },
    Attack {
        name: "compile bombs and damaged components",
        tests: &[
            "worker::a_server_keeps_every_connection_whatever_a_component_does_to_the_compiler",
            "worker::check_and_inspect_report_a_crash_of_the_compiler",
            "worker::no_mutant_of_a_component_ends_the_process_that_loads_it",
        ],
    },
    Attack {
        name: "compilers that run wild",
        tests: &[
            "worker::the_child_has_limits_and_neither_files_nor_secrets_of_the_server",
            "worker::a_child_that_is_killed_is_reported_and_the_old_version_keeps_serving",
            "worker::a_child_that_takes_longer_than_its_timeout_is_ended",
            "worker::a_server_that_is_killed_leaves_no_child_behind",
        ],
    },
    Attack {
        name: "planted files in the code cache",
        tests: &[
            "code_cache::planted_code_is_never_run_and_is_logged_once",
            "code_cache::a_folder_that_takes_the_place_of_the_cache_of_a_running_server_is_not_used",
            "code_cache::a_cache_of_another_user_or_behind_a_link_is_not_used_and_the_server_starts",
            "code_cache::a_component_that_may_write_to_the_cache_does_not_load",
        ],
    },
    Attack {
        name: "plugins that do not load",
        tests: &[
            "quarantine::a_plugin_that_does_not_load_at_the_start_is_unavailable_and_all_others_serve",
            "quarantine::an_authorizer_that_does_not_load_rejects_every_handshake",
            "quarantine::a_plugin_that_takes_long_to_start_delays_no_other_reload_and_no_roll_back",
            "quarantine::a_component_that_takes_long_to_compile_delays_no_roll_back",
        ],
    },
    Attack {
        name: "a thousand integrations",
        tests: &["code_cache::a_manifest_with_a_thousand_components_restarts_from_the_cache"],
    },
    Attack {
        name: "versions that keep failing",
        tests: &[
            "rollback::a_version_that_keeps_failing_returns_to_the_last_one_that_worked",
            "rollback::an_authorizer_never_returns",
            "rollback::a_version_that_changed_together_with_the_manifest_does_not_return",
        ],
    },
    Attack {
        name: "revoked keys",
        tests: &[
            "access::a_removed_key_stays_invalid_after_every_next_change",
            "access::keys_are_removed_and_added_whatever_else_in_the_manifest_is_wrong",
            "access::a_key_that_is_removed_while_the_body_of_its_call_arrives_is_rejected",
            "access::the_removal_of_the_last_access_key_allows_no_unsigned_calls",
            "access::a_removed_key_is_rejected_at_once_whatever_the_interval_of_polling_is",
            "access::a_key_that_is_removed_by_a_writer_that_holds_the_manifest_open_is_rejected_before_it_is_closed",
        ],
    },
    Attack {
        name: "half-written manifests",
        tests: &[
            "half_written::a_manifest_is_not_served_while_its_writer_holds_it_open",
            "half_written::a_manifest_that_is_closed_after_each_part_is_not_served_before_the_last_one",
            "half_written::keys_are_kept_while_the_manifest_is_written",
            "half_written::a_server_that_starts_waits_until_the_writer_of_its_manifest_has_closed_it",
            "half_written::a_server_that_starts_between_two_parts_of_its_manifest_waits_for_the_second_one",
        ],
    },
    Attack {
        name: "rows of other stages and stores",
        tests: &[
            "stages::a_handler_cannot_reach_the_row_of_another_stages_connection",
            "capabilities::plugins_with_different_stores_do_not_see_each_others_attributes",
        ],
    },
    Attack {
        name: "full buckets",
        tests: &["capabilities::a_full_bucket_rejects_what_makes_it_larger_and_is_counted_and_logged"],
    },
    Attack {
        name: "a plugin that keeps the store busy",
        tests: &[
            "harm::store::with_64_writers_of_one_plugin_the_keys_of_another_are_read_and_written_at_once",
            "backend::sled::blocking_thread::tests::\
             a_call_waits_for_one_call_of_each_other_queue_and_for_those_before_it_in_its_own",
            "backend::sled::blocking_thread::tests::a_call_of_many_turns_delays_its_own_queue_only",
            "gateway::api_key::tests::of_400_handshakes_at_once_the_quota_admits_exactly_as_many_as_its_limit",
        ],
    },
    Attack {
        name: "sleeping events",
        tests: &[
            "harm::places::\
             three_hundred_sleeping_events_of_one_plugin_delay_no_other_plugin_and_no_connection",
            "places::three_hundred_sleeping_events_of_one_plugin_leave_places_to_another_and_to_connections",
            "places::handshakes_that_sleep_leave_places_to_the_handshakes_and_messages_of_another_plugin",
            "places::requests_that_hang_leave_places_to_the_handshakes_and_disconnects_of_their_integration",
        ],
    },
    Attack {
        name: "lost peers",
        tests: &[
            "places::two_hundred_lost_peers_with_a_slow_disconnect_have_no_message_rejected",
            "places::the_messages_of_peers_that_have_gone_run_to_their_end_and_delay_no_other",
            "places::slow_disconnects_of_one_stage_after_a_crash_do_not_delay_those_of_another",
        ],
    },
    Attack {
        name: "a full disk",
        tests: &["store_files::after_a_full_disk_writes_succeed_again_and_no_acknowledged_write_is_lost"],
    },
    Attack {
        name: "lost and damaged stores",
        tests: &[
            "store_files::a_store_whose_files_were_lost_is_not_served_empty_and_an_import_brings_it_back",
            "store_files::a_damaged_store_is_rejected_with_the_name_of_the_last_good_export_and_is_kept_by_an_import",
            "backend::tests::a_store_with_any_damage_opens_or_is_rejected",
            "backend::tests::a_store_with_other_contents_than_its_last_server_left_is_damaged",
        ],
    },
    Attack {
        name: "a log that is not read",
        tests: &[
            "log::a_log_that_is_not_read_costs_no_message_no_connection_and_no_stop",
            "log::a_reader_of_the_log_that_has_gone_costs_nothing",
            "log::a_second_signal_ends_the_server_although_its_log_is_not_read",
            "log::a_stdout_that_is_not_read_delays_neither_the_start_nor_an_event_nor_the_stop",
            "log::a_plugin_may_log_a_mebibyte_in_any_second_and_the_log_counts_the_rest",
            "log::failures_of_a_route_are_rate_limited_and_counted_and_other_routes_are_not_affected",
        ],
    },
];

/// One line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    attack: String,
    bar: String,
    seen: String,
    holds: bool,
}

/// Runs the attacks, or, if there are words, only those whose names contain one of them.
pub fn harm(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let (options, words): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| argument.starts_with('-'));
    let with_dev = match options.iter().map(|option| option.as_str()).collect::<Vec<_>>()[..] {
        [] => false,
        ["--dev"] => true,
        _ => bail!("found {options:?}, expected no option but --dev"),
    };
    let chosen: Vec<&Attack> = ATTACKS
        .iter()
        .filter(|attack| words.is_empty() || words.iter().any(|word| attack.name.contains(*word)))
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
        bail!("no attack has {words:?} in its name; the attacks are: {}", names.join(", "));
    }
    guests::build()?;
    let file = target().join("harm.txt");
    // The measurements of an earlier run.
    let _ = fs::remove_file(&file);
    let mut tests = cargo();
    tests.env("JACKFIELD_HARM", &file);
    if !with_dev {
        step(
            "building jackfield with the release profile (fat LTO: about 12 minutes on 2 cores the first time)",
            cargo().args(["build", "--release", "-p", "jackfield"]),
        )?;
        tests.env("JACKFIELD_TEST_BINARY", target().join("release/jackfield"));
    }
    // The tests themselves have the dev profile, which `cargo xtask test` has built; only the server is a release.
    tests.args(["test", "-p", "jackfield", "--lib", "--test", "jackfield", "--no-fail-fast", "--"]);
    tests.args(["--exact", "--test-threads=1"]).args(chosen.iter().flat_map(|attack| attack.tests));
    let outcomes = run(&mut tests)?;
    let measurements = fs::read_to_string(&file).unwrap_or_default();
    let rows = table(&chosen, &measurements, &outcomes);
    print(&rows);
    let missed = rows.iter().filter(|row| !row.holds).count();
    println!("\n{} bars hold, {missed} missed", rows.len() - missed);
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the tests and shows their output. Returns which of them have passed.
fn run(tests: &mut Command) -> anyhow::Result<BTreeMap<String, bool>> {
    eprintln!("==> attacking a server");
    let mut running = tests.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = running.stdout.take().expect("the output is piped");
    let mut outcomes = BTreeMap::new();
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        eprintln!("{line}");
        outcomes.extend(outcome(&line));
    }
    // Tests that have failed are rows of the table; if nothing could be compiled, no test has run.
    running.wait()?;
    Ok(outcomes)
}

/// The test in a line such as `test NAME ... ok`, and whether it has passed.
fn outcome(line: &str) -> Option<(String, bool)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((name.to_owned(), result == "ok"))
}

/// The rows of each attack: its measurements, and the outcome of each of its tests.
fn table(attacks: &[&Attack], measurements: &str, outcomes: &BTreeMap<String, bool>) -> Vec<Row> {
    let measured: Vec<Row> = measurements.lines().filter_map(parse).collect();
    let mut rows = Vec::new();
    for Attack { name, tests } in attacks {
        for test in *tests {
            let sentence = test.rsplit("::").next().unwrap_or(test).replace('_', " ");
            let (seen, holds) = match outcomes.get(*test) {
                Some(true) => ("yes", true),
                Some(false) => ("no, see the output of the test above", false),
                None => ("the test did not run", false),
            };
            rows.push(Row { attack: (*name).to_owned(), bar: sentence, seen: seen.to_owned(), holds });
        }
        let of_attack = measured.iter().filter(|row| row.attack == *name);
        rows.extend(of_attack.map(|Row { attack, bar, seen, holds }| Row {
            attack: attack.clone(),
            bar: bar.clone(),
            seen: seen.clone(),
            holds: *holds,
        }));
    }
    rows
}

/// Parses a measurement: `attack | bar | seen | ok`.
fn parse(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.split(" | ").collect();
    let [attack, bar, seen, verdict] = cells[..] else { return None };
    Some(Row { attack: attack.to_owned(), bar: bar.to_owned(), seen: seen.to_owned(), holds: verdict == "ok" })
}

fn print(rows: &[Row]) {
    println!("\n| attack | bar | seen | |\n|---|---|---|---|");
    for Row { attack, bar, seen, holds } in rows {
        println!("| {attack} | {bar} | {seen} | {} |", if *holds { "ok" } else { "missed" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_gateway_page::exists;
    use crate::step::root;

    #[test]
    fn every_test_of_an_attack_exists_and_every_test_of_the_folder_belongs_to_one() {
        let listed: Vec<&str> = ATTACKS.iter().flat_map(|attack| attack.tests).copied().collect();
        let missing: Vec<_> = listed.iter().filter(|test| !exists(test)).collect();
        assert!(missing.is_empty(), "there are no tests with these names: {missing:#?}");
        for entry in fs::read_dir(root().join("host/tests/harm")).unwrap() {
            let path = entry.unwrap().path();
            let source = fs::read_to_string(&path).unwrap();
            let tests = source.split("#[tokio::test").skip(1);
            let names = tests.filter_map(|text| text.split("async fn ").nth(1)?.split('(').next());
            for name in names {
                let module = path.file_stem().unwrap().to_str().unwrap();
                assert!(listed.contains(&&*format!("harm::{module}::{name}")), "{name} belongs to no attack");
            }
        }
    }

    #[test]
    fn every_test_that_the_page_on_security_names_exists() {
        let page = fs::read_to_string(root().join("SECURITY.md")).unwrap();
        // Code spans are every second piece of a line.
        let spans = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        let tests: Vec<&str> = spans.filter(|span| span.contains("::")).collect();
        assert!(tests.len() > 30, "only {} tests were found", tests.len());
        let missing: Vec<_> = tests.iter().filter(|test| !exists(test)).collect();
        assert!(missing.is_empty(), "there are no tests with these names: {missing:#?}");
    }

    #[test]
    fn every_measurement_names_an_attack() {
        for entry in fs::read_dir(root().join("host/tests/harm")).unwrap() {
            let source = fs::read_to_string(entry.unwrap().path()).unwrap();
            assert_attacks(texts_after(&source, "start("));
            assert_attacks(texts_after(&source, "let name = "));
        }
        // In other files, a measurement begins with the name of the module.
        let mut found = 0;
        for entry in fs::read_dir(root().join("host/tests")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let source = fs::read_to_string(path).unwrap();
            for start in ["harm::measure(", "harm::measure_time(", "harm::Attack::start_in("] {
                found += assert_attacks(texts_after(&source, start));
            }
            if source.contains("use crate::harm") {
                assert_attacks(texts_after(&source, "let name = "));
            }
        }
        assert!(found >= 6, "only {found} measurements were found");
    }

    /// The string literals that follow `start` directly, or on the next line.
    fn texts_after<'a>(source: &'a str, start: &str) -> Vec<&'a str> {
        let rests = source.split(start).skip(1).map(str::trim_start);
        rests.filter_map(|rest| rest.strip_prefix('"')?.split('"').next()).collect()
    }

    /// Checks that each name is the name of an attack. Returns how many there are.
    fn assert_attacks(names: Vec<&str>) -> usize {
        for name in &names {
            assert!(ATTACKS.iter().any(|attack| attack.name == *name), "there is no attack {name:?}");
        }
        names.len()
    }

    #[test]
    fn a_row_is_missed_if_its_bar_is_missed_or_its_test_has_not_passed() {
        let attack =
            Attack { name: "slow heads", tests: &["harm::heads::they_end", "connect::it_fails", "connect::gone"] };
        let measurements =
            "slow heads | memory: at most 2 MiB | 1 MiB | ok\nslow heads | p99 | 9 ms | missed\nother | a | b | ok\n";
        let outcomes = ["test harm::heads::they_end ... ok", "test connect::it_fails ... FAILED", "running 2 tests"];
        let outcomes = outcomes.into_iter().filter_map(outcome).collect();
        let rows = table(&[&attack], measurements, &outcomes);
        let seen: Vec<(&str, &str, bool)> = rows.iter().map(|row| (&*row.bar, &*row.seen, row.holds)).collect();
        let expected = [
            ("they end", "yes", true),
            ("it fails", "no, see the output of the test above", false),
            ("gone", "the test did not run", false),
            ("memory: at most 2 MiB", "1 MiB", true),
            ("p99", "9 ms", false),
        ];
        assert_eq!(seen, expected);
    }
}
