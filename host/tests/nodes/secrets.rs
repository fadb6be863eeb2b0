//! Users and passwords of the store: where they come from, what a user must be allowed to do, and that no output has them.

use std::process::Command;

use super::connect;
use crate::harness::{HOSTILE, HOSTILE_GRANTS, Site, component, eventually, manifest};
use crate::redis_server::Redis;

const PASSWORD: &str = "correct-horse-7f3a";
const VARIABLE: &str = "JACKFIELD_TEST_PASSWORD";

fn site(redis: &Redis, query: &str, keys: &str) -> Site {
    let section = format!("[backend]\nurl = \"unix://{}{query}\"\nlease = \"4s\"\n{keys}", redis.socket().display());
    Site::new(&manifest(&component(HOSTILE), &section, HOSTILE_GRANTS))
}

/// Runs a server that does not start. Returns its error.
fn error_of(site: &Site, password: Option<&str>) -> String {
    let output = serve(site, password).args(["--listen", "127.0.0.1:0"]).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
    text
}

fn serve(site: &Site, password: Option<&str>) -> Command {
    let mut command = site.command(&["serve"]);
    command.env("RUST_LOG", "trace").env_remove(VARIABLE);
    command.envs(password.map(|password| (VARIABLE, password)));
    command
}

fn assert_words(error: &str, words: &[&str]) {
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

/// The line of docs/nodes.md.
const GRANT: &[&str] = &["+@all", "-@dangerous", "+info", "+client|kill", "~jackfield:*", "&jackfield:*"];

fn set_user(redis: &Redis, rights: &[&str]) {
    let password = format!(">{PASSWORD}");
    redis.command(&[&["acl", "setuser", "app", "reset", "on", &password], rights].concat());
}

#[tokio::test]
async fn a_password_comes_from_the_environment_and_is_in_no_output() {
    let mut redis = Redis::start_with(&["--requirepass", PASSWORD]).await;
    let keys = format!("password_env = \"{VARIABLE}\"");
    let of_environment = site(&redis, "", &keys);
    let of_url = site(&redis, &format!("?pass={PASSWORD}"), "");
    for (site, password) in [(of_environment, Some(PASSWORD)), (of_url, None)] {
        let check = site.command(&["check"]).env("RUST_LOG", "trace").output().unwrap();
        let checked = format!("{check:?}");
        let command = serve(&site, password);
        let mut node = site.launch(command);
        let (mut peer, id) = connect(&node).await;
        assert_eq!(peer.ask(&format!("add-to {id} room=lobby")).await, "changed");
        redis.kill();
        eventually("the store is away", || async { node.try_connect("", &[]).await.err() == Some(503) }).await;
        redis.restart().await;
        eventually("it is back", || async { node.try_connect("", &[]).await.is_ok() }).await;
        node.signal("TERM");
        assert_eq!(node.wait_for_exit().await, Some(0));
        let output = format!("{checked}{}{}", node.log.text(), node.stdout.text());
        assert!(output.contains("the store answers again"), "{output}");
        let started = node.log.wait_for_line(&["INFO", "this process is a node", " node=", " prefix="]).await;
        let store = format!("store=unix://{}", redis.socket().display());
        assert!(started.contains(&store) && started.contains(" lease=4s"), "{started}");
        assert!(!output.contains(PASSWORD), "the password is in the output");
    }
}

#[tokio::test]
async fn a_password_that_is_missing_or_wrong_is_an_error() {
    let redis = Redis::start_with(&["--requirepass", PASSWORD]).await;
    assert_words(&error_of(&site(&redis, "", ""), None), &["it asks for a password", "in password_env"]);
    let with_variable = site(&redis, "", &format!("password_env = \"{VARIABLE}\""));
    assert_words(&error_of(&with_variable, None), &["password_env: ", VARIABLE, " is not set"]);
    assert_words(&error_of(&with_variable, Some("")), &["password_env: ", VARIABLE, " is empty"]);
    assert_words(&error_of(&with_variable, Some("wrong")), &["it rejects the user or the password"]);
    let wrong = site(&redis, "?pass=wrong-5c1e", "");
    let error = error_of(&wrong, None);
    assert!(error.contains("it rejects the user or the password") && !error.contains("wrong-5c1e"), "{error}");
}

#[tokio::test]
async fn a_user_with_the_documented_rights_is_enough_and_a_missing_one_is_named() {
    let redis = Redis::start().await;
    let as_user = site(&redis, "", &format!("username = \"app\"\npassword_env = \"{VARIABLE}\""));
    for (missing, found) in [
        ("-zadd", "its user app may not run ZADD on keys and channels jackfield:*"),
        ("-publish", "may not run PUBLISH on"),
        ("-subscribe", "may not run SUBSCRIBE on"),
        ("resetchannels", "may not run PUBLISH, SUBSCRIBE on"),
        ("-info", "it refuses a command: "),
        ("-evalsha", "it refuses a command: "),
        ("-script|load", "it refuses a command: "),
        ("-ping", "may not run PING on"),
    ] {
        redis.command(&["script", "flush"]);
        set_user(&redis, &[GRANT, &[missing]].concat());
        let error = error_of(&as_user, Some(PASSWORD));
        let advice = "give it the rights of a node: ACL SETUSER app +@all -@dangerous +info +client|kill \
                      ~jackfield:* &jackfield:*";
        assert_words(&error, &[found, advice]);
    }
    set_user(&redis, &[GRANT, &["resetkeys", "~other:*"]].concat());
    assert_words(&error_of(&as_user, Some(PASSWORD)), &["may not run DEL, EVALSHA"]);

    set_user(&redis, GRANT);
    let start = || as_user.clone().launch(serve(&as_user, Some(PASSWORD)));
    let (one, other) = (start(), start());
    let (mut first, first_id) = connect(&one).await;
    let (mut second, second_id) = connect(&other).await;
    assert_eq!(first.ask(&format!("post {second_id} hello")).await, "posted");
    assert_eq!(second.text().await, "hello");
    assert_eq!(second.ask(&format!("add-to {first_id} room=lobby")).await, "changed");
    assert_eq!(second.ask("match room=lobby").await, "1");
    other.signal("KILL");
    assert_eq!(one.wait_for_disconnect(&second_id).await, "1006 ");
    assert!(!one.log.text().contains("NoPerm") && !one.log.text().contains("NOPERM"), "{}", one.log.text());
}
