//! The list of deployments and the rollback to an older one, through the admin listener.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use crate::components::{hostile_version, replace_file, wait_for_version};
use crate::harness::{HOSTILE_GRANTS, Server, Site, manifest};
use crate::redis_server::Redis;

pub const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

/// The hostile guest in version 1, with `sections` such as `ADMIN` in the manifest.
fn site(sections: &str) -> Site {
    let site = Site::new(&manifest("guest.wasm".as_ref(), sections, HOSTILE_GRANTS));
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    site
}

/// The address of the admin listener, from the log.
pub async fn admin_address(server: &Server) -> String {
    let line = server.log.wait_for_line(&["admin on http://"]).await;
    line.split_once("http://").unwrap().1.split('/').next().unwrap().to_owned()
}

/// Runs the verb `deployments` against the server. Returns the exit code, stdout and stderr.
pub async fn deployments(server: &Server, arguments: &[&str]) -> (i32, String, String) {
    let address = admin_address(server).await;
    let mut all = vec!["deployments", "--admin", &address];
    all.extend(arguments);
    server.site.run(&all)
}

/// The numbers of the listed deployments, the latest first. The current one is marked with `*`.
async fn listed_numbers(server: &Server) -> Vec<String> {
    let (code, listed, stderr) = deployments(server, &[]).await;
    assert_eq!(code, 0, "{stderr}");
    listed.lines().map(|line| line[..6].replace(' ', "")).collect()
}

#[tokio::test]
async fn a_rollback_serves_an_older_version_again_and_keeps_every_connection() {
    let server = site(ADMIN).serve();
    let mut peer = server.connect("").await;
    for number in 2..4 {
        replace_file(&server.site.path().join("guest.wasm"), hostile_version(number));
        wait_for_version(&mut peer, number, number - 1).await;
    }
    assert_eq!(listed_numbers(&server).await, ["*3", "2", "1"]);

    let (code, stdout, stderr) = deployments(&server, &["--rollback", "1"]).await;
    assert_eq!((code, &*stdout), (0, "rolled back to 1; it is served as deployment 4\n"), "{stderr}");
    assert_eq!(peer.ask("version").await, "00000001");
    let (_, listed, _) = deployments(&server, &[]).await;
    let first = listed.lines().next().unwrap();
    assert!(first.starts_with("*    4  2") && first.contains("  restores 1  guest "), "{listed}");
    let content_hash = |number: usize| listed.lines().nth(4 - number).unwrap().split_whitespace().rev().nth(2).unwrap();
    assert_ne!(content_hash(3), content_hash(2));

    // The next change of a file is deployed as usual.
    replace_file(&server.site.path().join("guest.wasm"), hostile_version(5));
    wait_for_version(&mut peer, 5, 1).await;
    assert_eq!(listed_numbers(&server).await, ["*5", "4", "3", "2", "1"]);
}

#[tokio::test]
async fn a_rollback_restores_the_manifest_too() {
    let server = site(&format!("[api]\nstage_variables = {{ colour = \"green\" }}\n{ADMIN}")).serve();
    let mut peer = server.connect("").await;
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), text.replace("green", "blue")).unwrap();
    server.log.wait_for_line(&["jackfield.toml", "live", "deployment=2"]).await;
    assert_eq!(peer.ask("variable colour").await, "blue");
    assert_eq!(deployments(&server, &["--rollback", "1"]).await.0, 0);
    assert_eq!(peer.ask("variable colour").await, "green");
}

#[tokio::test]
async fn the_verb_needs_no_secret_and_works_with_a_manifest_that_has_errors_or_is_no_toml() {
    let secret = "[access_keys.AKID]\nsecret_env = \"JACKFIELD_TEST_SECRET\"\n";
    let site = site(&format!("[backend]\nurl = \"sled:store\"\n{ADMIN}{secret}"));
    let mut command = site.command(&["serve"]);
    command.env("JACKFIELD_TEST_SECRET", "0123456789012345678901234567890123456789");
    let server = site.launch(command);
    assert_eq!(listed_numbers(&server).await, ["*1"]);
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    for wrong in ["unknown = 1", "[integrations.other]", "[routes", "[api]\nid = \"cut"] {
        fs::write(server.site.manifest(), format!("{text}\n{wrong}")).unwrap();
        assert_eq!(listed_numbers(&server).await[0].chars().next(), Some('*'), "{wrong}");
        let (code, _, stderr) = deployments(&server, &["--rollback", "1"]).await;
        assert_eq!(code, 0, "{wrong}: {stderr}");
    }
}

#[tokio::test]
async fn the_last_ten_deployments_are_kept() {
    let server = site(ADMIN).serve();
    let mut peer = server.connect("").await;
    for number in 2..13 {
        replace_file(&server.site.path().join("guest.wasm"), hostile_version(number));
        wait_for_version(&mut peer, number, number - 1).await;
    }
    let kept: Vec<String> = (3..12).rev().map(|number| number.to_string()).collect();
    let listed = listed_numbers(&server).await;
    assert_eq!((&*listed[0], &listed[1..]), ("*12", &kept[..]));
    let (code, _, stderr) = deployments(&server, &["--rollback", "2"]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("deployment 2 is not kept: the last 10 are"), "{stderr}");
    assert_eq!(peer.ask("version").await, "00000012");
    assert_eq!(deployments(&server, &["--rollback", "3"]).await.0, 0);
    assert_eq!(peer.ask("version").await, "00000003");
}

#[tokio::test]
async fn reused_instances_of_a_replaced_version_are_dropped_and_made_again_after_a_rollback() {
    let text = manifest("guest.wasm".as_ref(), ADMIN, &format!("{HOSTILE_GRANTS}reuse = 100\n"));
    let site = Site::new(&text);
    replace_file(&site.path().join("guest.wasm"), hostile_version(1));
    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("count").await, "1");
    assert_eq!(peer.ask("count").await, "2");
    replace_file(&server.site.path().join("guest.wasm"), hostile_version(2));
    wait_for_version(&mut peer, 2, 1).await;
    assert_eq!(deployments(&server, &["--rollback", "1"]).await.0, 0);
    assert_eq!(peer.ask("count").await, "1", "a new instance");
    assert_eq!(peer.ask("count").await, "2", "that is kept");
}

#[tokio::test]
async fn without_the_token_every_admin_request_is_unauthorized() {
    let server = site(ADMIN).serve();
    let address: std::net::SocketAddr = admin_address(&server).await.parse().unwrap();
    let token_file = server.site.path().join("data/admin-token");
    assert_eq!(fs::metadata(&token_file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&token_file).unwrap();
    for (authorization, status) in [
        (String::new(), 401),
        ("Authorization: Bearer \r\n".to_owned(), 401),
        (format!("Authorization: Bearer {}x\r\n", &token[1..]), 401),
        (format!("Authorization: Basic {token}\r\n"), 401),
        (format!("Authorization: Bearer {token}\r\n"), 200),
    ] {
        let head = format!("Host: localhost\r\nConnection: close\r\n{authorization}\r\n");
        let answer = server.http_at(address, &format!("GET /deployments HTTP/1.1\r\n{head}")).await;
        assert_eq!(answer.status, status, "{authorization}");
        let answer = server.http_at(address, &format!("POST /deployments/7/rollback HTTP/1.1\r\n{head}")).await;
        assert_eq!(answer.status, if status == 200 { 404 } else { 401 }, "{authorization}");
    }
    assert!(!server.log.text().contains(&token));
}

/// The verb sends the content of the file to the address of the admin listener, and the server writes the file. In a
/// folder that others may write, a link could make the verb send any file of its user, or the server write to one.
/// Its store is in Redis, so nothing else creates the folder.
#[tokio::test]
async fn the_token_of_a_node_is_in_a_folder_that_only_its_user_can_enter() {
    let redis = Redis::start().await;
    let server = site(&format!("{}\n{ADMIN}", redis.section())).serve();
    assert_eq!(listed_numbers(&server).await, ["*1"]);
    let folder = fs::metadata(server.site.path().join("data")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_token_file_that_another_user_may_have_placed_is_neither_sent_nor_written_to() {
    type Place = fn(&Path, &Path);
    let site = site(ADMIN);
    let token_file = site.path().join("data/admin-token");
    let secret = site.path().join("secret");
    let secret_text = "a".repeat(43);
    fs::write(&secret, &secret_text).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(site.path().join("data")).unwrap();
    symlink(&secret, &token_file).unwrap();

    let server = site.serve();
    assert_eq!(fs::read_to_string(&secret).unwrap(), secret_text, "the server wrote through the link");
    assert!(fs::symlink_metadata(&token_file).unwrap().is_file());
    assert_eq!(deployments(&server, &[]).await.0, 0);
    let token = fs::read_to_string(&token_file).unwrap();
    let files: Vec<_> = fs::read_dir(token_file.parent().unwrap()).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.iter().any(|file| file.file_name().unwrap().as_encoded_bytes().starts_with(b".tmp")), "{files:?}");

    let places: [(&str, Place); 7] = [
        ("found a link", |path, secret| symlink(secret, path).unwrap()),
        ("found a file with another name", |path, secret| fs::hard_link(secret, path).unwrap()),
        ("found a folder, a FIFO or a device", |path, _| {
            assert!(Command::new("mkfifo").args(["-m", "600"]).arg(path).status().unwrap().success());
        }),
        ("found a folder, a FIFO or a device", |path, _| fs::create_dir(path).unwrap()),
        ("found a file of another length", |path, _| fs::write(path, "a".repeat(44)).unwrap()),
        ("found characters that no token has", |path, _| fs::write(path, "b c".repeat(15).split_at(43).0).unwrap()),
        ("found a file that other users can access", |path, _| fs::write(path, "a".repeat(43)).unwrap()),
    ];
    for (found, place) in places {
        match fs::remove_file(&token_file) {
            Ok(()) => {}
            Err(_) => fs::remove_dir(&token_file).unwrap(),
        }
        place(&token_file, &secret);
        if fs::symlink_metadata(&token_file).unwrap().is_file() {
            let mode = if found.contains("other users") { 0o604 } else { 0o600 };
            fs::set_permissions(&token_file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let (code, _, stderr) = deployments(&server, &[]).await;
        assert_eq!(code, 1, "{found}: {stderr}");
        assert!(stderr.contains("rejected the token in") && stderr.contains(found), "{found}: {stderr}");
        assert!(!stderr.contains(&secret_text[..8]), "{stderr}");
    }
    fs::remove_file(&token_file).unwrap();
    fs::write(&token_file, token).unwrap();
    fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(deployments(&server, &[]).await.0, 0);
}

#[tokio::test]
async fn the_token_may_come_from_the_environment() {
    let site = site(&format!("{ADMIN}token_env = \"OPERATOR\"\n"));
    let (code, _, stderr) = site.run(&["serve"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("[admin] token_env: OPERATOR has 0 bytes, expected at least 16"), "{stderr}");

    let mut command = site.command(&["serve"]);
    command.env("OPERATOR", "a token of the operator's");
    let server = site.launch(command);
    let address = admin_address(&server).await;
    let mut command = server.site.command(&["deployments", "--admin", &address]);
    let output = command.env("OPERATOR", "another token altogether").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("the server rejected the token"));
    let output = command.env("OPERATOR", "a token of the operator's").output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"*    1  "));
    assert!(!server.site.path().join("data/admin-token").exists());
}

#[tokio::test]
async fn without_an_admin_listener_the_verb_says_what_to_add() {
    let server = site("").serve();
    let (code, _, stderr) = server.site.run(&["deployments"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("the manifest has no admin listener; add [admin]"), "{stderr}");
}
