//! What was deployed, and the way back, through the admin listener.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::components::{becomes, put, version};
use crate::harness::{HOSTILE_GRANTS, Server, Site, manifest};

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

/// The hostile guest in version 1, with an admin listener.
fn site(rest: &str) -> Site {
    let site = Site::new(&manifest("guest.wasm".as_ref(), rest, HOSTILE_GRANTS));
    put(&site.path().join("guest.wasm"), version(1));
    site
}

async fn admin(server: &Server) -> String {
    let line = server.log.line_with(&["admin on http://"]).await;
    line.split_once("http://").unwrap().1.split('/').next().unwrap().to_owned()
}

/// Runs `deployments` beside the server: exit code, stdout, stderr.
pub async fn deployments(server: &Server, arguments: &[&str]) -> (i32, String, String) {
    let address = admin(server).await;
    let mut all = vec!["deployments", "--admin", &address];
    all.extend(arguments);
    server.site.run(&all)
}

/// The numbers that are listed, the latest first, each with its mark.
async fn numbers(server: &Server) -> Vec<String> {
    let (code, listed, told) = deployments(server, &[]).await;
    assert_eq!(code, 0, "{told}");
    listed.lines().map(|line| line[..6].replace(' ', "")).collect()
}

#[tokio::test]
async fn a_roll_back_serves_an_older_version_again_and_every_connection_stays() {
    let server = site(ADMIN).serve();
    let mut peer = server.connect("").await;
    for number in 2..4 {
        put(&server.site.path().join("guest.wasm"), version(number));
        becomes(&mut peer, number, number - 1).await;
    }
    assert_eq!(numbers(&server).await, ["*3", "2", "1"]);

    let (code, said, told) = deployments(&server, &["--rollback", "1"]).await;
    assert_eq!((code, &*said), (0, "rolled back to 1; it is served as deployment 4\n"), "{told}");
    assert_eq!(peer.ask("version").await, "00000001");
    let (_, listed, _) = deployments(&server, &[]).await;
    let first = listed.lines().next().unwrap();
    assert!(first.starts_with("*    4  2") && first.contains("  restores 1  guest "), "{listed}");
    let content = |number: usize| listed.lines().nth(4 - number).unwrap().split_whitespace().rev().nth(2).unwrap();
    assert_ne!(content(3), content(2));

    // The next change of a file is a deployment as ever.
    put(&server.site.path().join("guest.wasm"), version(5));
    becomes(&mut peer, 5, 1).await;
    assert_eq!(numbers(&server).await, ["*5", "4", "3", "2", "1"]);
}

#[tokio::test]
async fn a_roll_back_brings_the_manifest_back_too() {
    let server = site(&format!("[api]\nstage_variables = {{ colour = \"green\" }}\n{ADMIN}")).serve();
    let mut peer = server.connect("").await;
    let text = fs::read_to_string(server.site.manifest()).unwrap();
    fs::write(server.site.manifest(), text.replace("green", "blue")).unwrap();
    server.log.line_with(&["jackfield.toml", "live", "deployment=2"]).await;
    assert_eq!(peer.ask("variable colour").await, "blue");
    assert_eq!(deployments(&server, &["--rollback", "1"]).await.0, 0);
    assert_eq!(peer.ask("variable colour").await, "green");
}

#[tokio::test]
async fn the_last_ten_deployments_are_kept() {
    let server = site(ADMIN).serve();
    let mut peer = server.connect("").await;
    for number in 2..13 {
        put(&server.site.path().join("guest.wasm"), version(number));
        becomes(&mut peer, number, number - 1).await;
    }
    let kept: Vec<String> = (3..12).rev().map(|number| number.to_string()).collect();
    let listed = numbers(&server).await;
    assert_eq!((&*listed[0], &listed[1..]), ("*12", &kept[..]));
    let (code, _, told) = deployments(&server, &["--rollback", "2"]).await;
    assert_eq!(code, 1);
    assert!(told.contains("deployment 2 is not kept: the last 10 are"), "{told}");
    assert_eq!(peer.ask("version").await, "00000012");
    assert_eq!(deployments(&server, &["--rollback", "3"]).await.0, 0);
    assert_eq!(peer.ask("version").await, "00000003");
}

#[tokio::test]
async fn kept_instances_of_a_version_that_was_replaced_are_let_go_and_made_again_after_a_roll_back() {
    let text = manifest("guest.wasm".as_ref(), ADMIN, &format!("{HOSTILE_GRANTS}reuse = 100\n"));
    let site = Site::new(&text);
    put(&site.path().join("guest.wasm"), version(1));
    let server = site.serve();
    let mut peer = server.connect("").await;
    assert_eq!(peer.ask("count").await, "1");
    assert_eq!(peer.ask("count").await, "2");
    put(&server.site.path().join("guest.wasm"), version(2));
    becomes(&mut peer, 2, 1).await;
    assert_eq!(deployments(&server, &["--rollback", "1"]).await.0, 0);
    assert_eq!(peer.ask("count").await, "1", "a new instance");
    assert_eq!(peer.ask("count").await, "2", "that is kept");
}

#[tokio::test]
async fn nobody_without_the_token_is_told_anything() {
    let server = site(ADMIN).serve();
    let address: std::net::SocketAddr = admin(&server).await.parse().unwrap();
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

#[tokio::test]
async fn the_token_may_come_from_the_environment() {
    let site = site(&format!("{ADMIN}token_env = \"OPERATOR\"\n"));
    let (code, _, told) = site.run(&["serve"]);
    assert_eq!(code, 1);
    assert!(told.contains("[admin] token_env: OPERATOR has 0 bytes, expected at least 16"), "{told}");

    let mut command = site.command(&["serve"]);
    command.env("OPERATOR", "a token of the operator's");
    let server = site.launch(command);
    let address = admin(&server).await;
    let mut asking = server.site.command(&["deployments", "--admin", &address]);
    let asked = asking.env("OPERATOR", "another token altogether").output().unwrap();
    assert!(String::from_utf8_lossy(&asked.stderr).contains("the server does not know the token"));
    let asked = asking.env("OPERATOR", "a token of the operator's").output().unwrap();
    assert!(asked.status.success() && asked.stdout.starts_with(b"*    1  "));
    assert!(!server.site.path().join("data/admin-token").exists());
}

#[tokio::test]
async fn without_an_admin_listener_the_verb_says_what_to_add() {
    let server = site("").serve();
    let (code, _, told) = server.site.run(&["deployments"]);
    assert_eq!(code, 1);
    assert!(told.contains("the manifest has no admin listener; add [admin]"), "{told}");
}
