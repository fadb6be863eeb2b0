//! Several stages of one API in one process.

use crate::harness::{HOSTILE, HOSTILE_GRANTS, Server, Site, component};

/// Three stages. `dev` and `prod` have their own variables. `prod` has its own routes and the base path `/chat/v1`. The
/// base path of `root` is `/`.
fn stages() -> Site {
    Site::new(&format!(
        r#"
[integrations.guest]
component = {:?}
{HOSTILE_GRANTS}

[routes]
"$connect" = "guest"
"$disconnect" = "guest"
"$default" = {{ integration = "guest", route_response = true }}

[stages.dev]
variables = {{ table = "dev-users" }}

[stages.prod]
variables = {{ table = "users" }}
base_path = "chat/v1"
routes = {{ "$default" = "guest", shout = {{ integration = "guest", route_response = true }} }}

[stages.root]
base_path = ""
"#,
        component(HOSTILE)
    ))
}

async fn connect_to(server: &Server, path: &str) -> crate::harness::Peer {
    server.try_connect_to(path, &[]).await.unwrap_or_else(|status| panic!("{path} is rejected with {status}"))
}

#[tokio::test]
async fn each_stage_has_its_own_variables_and_routes() {
    let server = stages().serve();
    let mut dev = connect_to(&server, "/dev").await;
    assert_eq!(dev.ask("variable table").await, "dev-users");
    assert_eq!(dev.ask(r#"{"action":"shout","data":1}"#).await, r#"$default {"action":"shout","data":1}"#);
    let mut prod = connect_to(&server, "/prod").await;
    assert_eq!(prod.ask(r#"{"action":"shout","do":"variable table"}"#).await, "users");
    prod.send("variable table").await;
    assert_eq!(
        prod.ask(r#"{"action":"shout","do":"echo only this"}"#).await,
        "only this",
        "its $default has no route response"
    );
    assert!(prod.ask(r#"{"action":"shout","do":"context"}"#).await.starts_with("local prod "));
}

#[tokio::test]
async fn a_stage_is_reached_by_its_base_path_and_by_its_name() {
    let server = stages().serve();
    let shouted = r#"{"action":"shout","do":"context"}"#;
    for path in ["/chat/v1", "/chat/v1/", "/prod", "/chat/v1?x=1"] {
        assert!(connect_to(&server, path).await.ask(shouted).await.starts_with("local prod "), "{path}");
    }
    assert!(connect_to(&server, "/").await.ask("context").await.starts_with("local root "));
    assert!(connect_to(&server, "/root").await.ask("context").await.starts_with("local root "));
    for path in ["/chat", "/chat/v2", "/v1", "/other", "/chat/v1/dev", "/dev/prod"] {
        assert_eq!(server.try_connect_to(path, &[]).await.err(), Some(403), "{path}");
    }
}

#[tokio::test]
async fn a_connection_is_reached_through_its_own_stage_only() {
    let server = stages().serve();
    let mut dev = connect_to(&server, "/dev").await;
    let mut other = connect_to(&server, "/dev").await;
    let mut prod = connect_to(&server, "/chat/v1").await;
    let (dev_id, prod_id) = (dev.id().await, prod.ask(r#"{"action":"shout","do":"id"}"#).await);

    for path in [format!("/prod/@connections/{prod_id}"), format!("/chat/v1/@connections/{prod_id}")] {
        assert_eq!(server.request("POST", &path, "hello").await.status, 200, "{path}");
        assert_eq!(prod.text().await, "hello");
    }
    assert_eq!(server.request("POST", &format!("/dev/@connections/{prod_id}"), "hello").await.status, 410);
    assert_eq!(
        server.request("GET", &format!("/@connections/{prod_id}"), "").await.status,
        410,
        "the path belongs to the stage root"
    );
    assert_eq!(server.request("DELETE", &format!("/prod/@connections/{dev_id}"), "").await.status, 410);

    assert_eq!(dev.ask(&format!("post {prod_id} hello")).await, "error: the connection is gone");
    assert_eq!(dev.ask(&format!("close {prod_id}")).await, "error: the connection is gone");
    assert_eq!(other.ask(&format!("post {dev_id} hello")).await, "posted");
    assert_eq!(dev.text().await, "hello");
}

#[tokio::test]
async fn a_handler_finds_the_rows_of_its_own_stage_only() {
    let server = stages().serve();
    let mut dev = connect_to(&server, "/dev").await;
    let mut prod = connect_to(&server, "/prod").await;
    assert_eq!(dev.ask("row room=general").await, "added");
    assert_eq!(prod.ask(r#"{"action":"shout","do":"row room=general"}"#).await, "added");
    let one = "1 rows, 0 of them twice";
    assert_eq!(dev.ask("query room=general").await, one);
    assert_eq!(prod.ask(r#"{"action":"shout","do":"query room=general"}"#).await, one);
    assert_eq!(dev.ask("scan").await, "1");
    // A broadcast of one stage does not reach the other.
    let mut second = connect_to(&server, "/dev").await;
    assert_eq!(second.ask("match room=general").await, "1");
    assert_eq!(dev.text().await, "matched");
}

/// Seen before: `get`, `put`, `add` and `remove` found a row by its connection id alone, so one plugin read and wrote
/// the rows of every stage.
#[tokio::test]
async fn a_handler_cannot_reach_the_row_of_another_stages_connection() {
    let server = stages().serve();
    let mut dev = connect_to(&server, "/dev").await;
    let mut prod = connect_to(&server, "/prod").await;
    let prod_id = prod.ask(r#"{"action":"shout","do":"id"}"#).await;
    let dev_id = dev.id().await;
    assert_eq!(prod.ask(r#"{"action":"shout","do":"row room=general"}"#).await, "added");
    let gone = "error: the connection has no row";
    let orders = ["row-of ID", "add-to ID room=x", "put-to ID room=x", "remove-from ID room"];
    for order in orders {
        assert_eq!(dev.ask(&order.replace("ID", &prod_id)).await, gone, "{order}");
        let shout = format!(r#"{{"action":"shout","do":"{}"}}"#, order.replace("ID", &dev_id));
        assert_eq!(prod.ask(&shout).await, gone, "{order}");
    }
    assert_eq!(dev.ask(&format!("info {prod_id}")).await, "error: the connection is gone");
    assert_eq!(dev.ask("match room=general").await, "0");
    assert_eq!(dev.ask("query room=general").await, "0 rows, 0 of them twice");
    // The row is as it was, and its own stage reaches it.
    let row = format!(r#"{{"action":"shout","do":"row-of {prod_id}"}}"#);
    assert_eq!(prod.ask(&row).await, "room=general");
    let mut second = connect_to(&server, "/dev").await;
    assert_eq!(second.ask(&format!("add-to {dev_id} room=general")).await, "changed");
    assert_eq!(dev.ask(&format!("row-of {dev_id}")).await, "room=general");
    assert_eq!(second.ask(&format!("put-to {dev_id} room=other")).await, "changed");
    assert_eq!(second.ask(&format!("remove-from {dev_id} room")).await, "changed");
    assert_eq!(dev.ask(&format!("row-of {dev_id}")).await, "no attributes");

    let broadcast = server.request("POST", "/dev/@jackfield/connections?name=room&value=general", "hello").await;
    assert_eq!(broadcast.body, r#"{"sent":0,"refused":0}"#);
    let list = server.request("GET", "/dev/@jackfield/connections?name=room&value=general", "").await;
    assert_eq!(list.body, r#"{"connections":[]}"#);
}

#[tokio::test]
async fn a_reload_changes_the_variables_of_a_stage_while_its_connections_stay() {
    let server = stages().serve();
    let mut dev = connect_to(&server, "/dev").await;
    let manifest = std::fs::read_to_string(server.site.manifest()).unwrap();
    std::fs::write(server.site.manifest(), manifest.replace("dev-users", "other-users")).unwrap();
    server.log.wait_for_line(&["jackfield.toml", "live"]).await;
    assert_eq!(dev.ask("variable table").await, "other-users");
}

#[tokio::test]
async fn messages_to_a_stage_that_a_reload_removed_are_forbidden() {
    let server = stages().serve();
    let mut root = connect_to(&server, "/").await;
    assert!(root.ask("context").await.starts_with("local root "));
    let manifest = std::fs::read_to_string(server.site.manifest()).unwrap();
    std::fs::write(server.site.manifest(), manifest.replace("[stages.root]\nbase_path = \"\"", "")).unwrap();
    server.log.wait_for_line(&["jackfield.toml", "live"]).await;
    assert!(root.ask("context").await.starts_with(r#"{"message": "Forbidden", "connectionId":""#));
    assert_eq!(server.try_connect_to("/root", &[]).await.err(), Some(403));
}
