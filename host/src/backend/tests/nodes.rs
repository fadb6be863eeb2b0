//! Several nodes on one Redis: what each of them finds after another one, or Redis, has failed.

use super::*;

/// Connects two nodes to the same empty store.
async fn nodes() -> [Backend; 2] {
    let options = redis_server::options();
    [redis_server::connect(&options).await, redis_server::connect(&options).await]
}

/// Removes all keys of a store, as a Redis that was killed and has no data.
async fn lose_data(backend: &Backend) {
    let Rows::Redis(redis) = &backend.rows else { unreachable!("the store is Redis") };
    redis.lose_data().await;
}

#[tokio::test]
async fn rows_are_written_again_until_all_are_although_the_first_renewal_had_no_answer() {
    let [node, other] = nodes().await;
    let row = row(&node, &[("room", "lobby")]);
    node.insert_row(row.clone()).await.unwrap();
    lose_data(&node).await;
    assert_eq!(matching(&other, "room", "lobby").await, []);
    // What renews first, such as an event, does not write the rows.
    assert_eq!(node.renew_lease().await, Ok(Renewal::Restored));
    assert_eq!(node.renew_lease().await, Ok(Renewal::Restored));
    assert_eq!(node.save_rows_again().await, Ok(1));
    assert_eq!(node.renew_lease().await, Ok(Renewal::Renewed));
    assert_eq!(node.save_rows_again().await, Ok(0));
    assert_eq!(matching(&other, "room", "lobby").await, [row.id]);
    assert_consistent(&node).await;
}

#[tokio::test]
async fn rows_that_were_written_again_are_taken_over_when_their_node_is_gone() {
    let options = redis_server::options();
    let node = redis_server::connect(&RedisOptions { lease: Duration::from_millis(100), ..options.clone() }).await;
    let other = redis_server::connect(&options).await;
    let row = row(&node, &[("room", "lobby")]);
    node.insert_row(row.clone()).await.unwrap();
    lose_data(&node).await;
    node.renew_lease().await.unwrap();
    node.save_rows_again().await.unwrap();
    let left_behind = || other.left_behind(stage(&other), None);
    for _ in 0..100 {
        other.renew_lease().await.unwrap();
        other.adopt_rows().await.unwrap();
        if !left_behind().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left_behind(), [row]);
    assert_eq!(matching(&other, "room", "lobby").await, []);
}

#[tokio::test]
async fn a_row_that_only_redis_has_is_deleted_when_all_rows_are_written_again() {
    let [node, other] = nodes().await;
    let kept = row(&node, &[("room", "lobby")]);
    let deleted = row(&node, &[("room", "lobby")]);
    for row in [&kept, &deleted] {
        node.insert_row(row.clone()).await.unwrap();
    }
    let Rows::Redis(redis) = &node.rows else { unreachable!("the store is Redis") };
    redis.forget_row(stage(&node), deleted.id);
    lose_name_of_data(&node).await;
    assert_eq!(node.renew_lease().await, Ok(Renewal::Restored));
    node.save_rows_again().await.unwrap();
    assert_eq!(matching(&other, "room", "lobby").await, [kept.id]);
    assert_consistent(&node).await;
}

/// Makes a store look like one that was started again with the data of an earlier moment.
async fn lose_name_of_data(backend: &Backend) {
    let Rows::Redis(redis) = &backend.rows else { unreachable!("the store is Redis") };
    redis.lose_key("nodes", "since").await;
}

#[tokio::test]
async fn a_node_is_listed_from_its_first_claim_on_and_its_record_changes_with_its_next_renewal() {
    let backend = redis_server::backend().await;
    let listed = async || backend.live_nodes().await.unwrap().unwrap();
    let [first] = &listed().await[..] else { panic!("one node has claimed its number") };
    let description = &first.record.description;
    assert_eq!((&*description.version, &*description.content), (env!("CARGO_PKG_VERSION"), ""));
    assert_eq!(first.record.lease_millis, 10_000);
    assert!(first.renewed_millis_ago.is_some_and(|age| age < 10_000), "{first:?}");

    let description = NodeDescription { content: "486e427a3e03".to_owned(), connections: 3, ..description.clone() };
    backend.describe_node(description.clone());
    assert_eq!(listed().await[0].record.description.content, "");
    assert_eq!(backend.renew_lease().await, Ok(Renewal::Renewed));
    let renewed = &listed().await[0].record;
    assert_eq!((&renewed.description, renewed.node), (&description, first.record.node));
    assert_eq!(backend.node_record(description).node, first.record.node);

    let state = backend.node_state().unwrap();
    assert_eq!((state.nodes, state.unsaved_rows, state.is_store_up, state.store_outages), (1, 0, true, 0));
    backend.leave().await.unwrap();
    assert_eq!(listed().await, []);
}
